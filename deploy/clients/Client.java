// java Client.java
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

class Client {
    public static void main(String[] arguments) throws Exception {
        // No token and no login: the proxy adds what Fluent wants.
        String url = System.getenv().getOrDefault("FLUENT_GRAPHQL_URL", "http://localhost:4280/graphql");
        String body = """
            {
              "query": "query Orders($first: Int!) { orders(first: $first) { edges { node { id ref status } } } }",
              "variables": { "first": 3 }
            }
            """;
        HttpRequest request = HttpRequest.newBuilder(URI.create(url))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
        HttpResponse<String> answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.body());
    }
}
