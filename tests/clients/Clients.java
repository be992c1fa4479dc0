// java.net.http against the proxy, over HTTP/1.1 and over cleartext HTTP/2; see clients.test.mjs.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;

final class Clients {
    static final String URL = System.getenv("FLUENT_GRAPHQL_URL");
    static final String CONTROL = System.getenv("FLUENT_SANDBOX_CONTROL_URL");
    static final String ME = "{\"query\":\"query Me { me { username } }\"}";

    final HttpClient client;
    final HttpClient.Version version;

    Clients(HttpClient.Version version) {
        this.version = version;
        this.client = HttpClient.newBuilder().version(version).build();
    }

    public static void main(String[] arguments) throws Exception {
        new Clients(HttpClient.Version.HTTP_1_1).run();
        new Clients(HttpClient.Version.HTTP_2).run();
    }

    void run() throws Exception {
        check(ask(ME).contains("\"username\":\"demo\""), "the user");
        // A server that can do both is asked to go over to HTTP/2; one that does not answers as it was asked.
        check(answer(ME).version() == version || version == HttpClient.Version.HTTP_2, "the version");
        String kind = version.name();
        check(ask(order(kind)).contains("{\"createOrder\":{\"ref\":\"" + kind + "\"}}"), "an order");
        HttpResponse<String> clash = answer(order(kind));
        check(clash.statusCode() == 200 && clash.body().contains("C0120E"), "an error in 200");
        check(ask(System.getenv("LONG_BODY")).length() > 2_000_000, "a long answer");

        control("POST", "/faults", "{\"place\":\"api\",\"fault\":\"hang\",\"times\":\"always\"}");
        long known = count("api_requests");
        CompletableFuture<HttpResponse<String>> cancelled = send(ME);
        while (count("api_requests") == known) {
            Thread.onSpinWait();
        }
        check(cancelled.cancel(true), "cancelled");
        control("DELETE", "/faults", "");
        check(ask(ME).contains("\"username\":\"demo\""), "the user, after one who left");

        List<CompletableFuture<HttpResponse<String>>> many = new ArrayList<>();
        for (int number = 0; number < 50; number++) {
            many.add(send(order(kind + "-" + number)));
        }
        for (int number = 0; number < 50; number++) {
            String body = many.get(number).get().body();
            check(body.contains("{\"createOrder\":{\"ref\":\"" + kind + "-" + number + "\"}}"), "many at once: " + body);
        }

        long mutations = count("mutations");
        long unauthorized = count("api_unauthorized");
        control("POST", "/revoke", "{}");
        check(ask(order(kind + "-after")).contains(kind + "-after"), "after a token died");
        check(count("mutations") == mutations + 1 && count("api_unauthorized") == unauthorized + 1, "once");
    }

    String order(String ref) {
        String items = "[{\"ref\":\"i\",\"productRef\":\"SKU_00001\",\"quantity\":1}]";
        String input = "{\"ref\":\"" + ref + "\",\"type\":\"HD\",\"items\":" + items + "}";
        String query = "mutation Create($input: CreateOrderInput!) { createOrder(input: $input) { ref } }";
        return "{\"query\":\"" + query + "\",\"variables\":{\"input\":" + input + "}}";
    }

    CompletableFuture<HttpResponse<String>> send(String body) {
        HttpRequest request = HttpRequest.newBuilder(URI.create(URL))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
        return client.sendAsync(request, HttpResponse.BodyHandlers.ofString());
    }

    HttpResponse<String> answer(String body) throws Exception {
        return send(body).get();
    }

    String ask(String body) throws Exception {
        HttpResponse<String> answer = answer(body);
        check(answer.statusCode() == 200 && !answer.body().contains("\"errors\""), answer.toString() + answer.body());
        return answer.body();
    }

    static String control(String method, String path, String body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(CONTROL + path))
            .header("Content-Type", "application/json")
            .method(method, HttpRequest.BodyPublishers.ofString(body))
            .build();
        HttpClient http1 = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        return http1.send(request, HttpResponse.BodyHandlers.ofString()).body();
    }

    static long count(String name) throws Exception {
        String seen = control("GET", "/seen", "");
        String counts = seen.substring(seen.indexOf("\"counts\":"));
        String after = counts.substring(counts.indexOf("\"" + name + "\":") + name.length() + 3);
        return Long.parseLong(after.split("[,}]")[0]);
    }

    static void check(boolean right, String what) {
        if (!right) {
            throw new AssertionError(what);
        }
    }
}
