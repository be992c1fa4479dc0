//! The rules of the watch, on real files.

use std::ffi::OsString;
use std::os::unix::fs::symlink;

use super::*;
use crate::token::grant::Grant;

/// A folder as Kubernetes makes it: `password` and `secret` are links into what the link `..data` names.
struct Volume {
    folder: tempfile::TempDir,
    version: usize,
}

impl Volume {
    fn new(password: &str, secret: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut volume = Self { folder, version: 0 };
        volume.swap(password, secret);
        for name in ["password", "secret"] {
            symlink(format!("..data/{name}"), volume.path().join(name)).unwrap();
        }
        volume
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Another version, all at once.
    fn swap(&mut self, password: &str, secret: &str) {
        self.version += 1;
        let name = format!("..{}", self.version);
        let folder = self.path().join(&name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("password"), password).unwrap();
        std::fs::write(folder.join("secret"), secret).unwrap();
        let link = self.path().join("..data_tmp");
        symlink(&name, &link).unwrap();
        std::fs::rename(&link, self.path().join("..data")).unwrap();
    }
}

fn sources(password: &Path, secret: &Path) -> Sources {
    let variables: [(&str, OsString); 5] = [
        ("FLUENT_URL", "https://acme.example".into()),
        ("FLUENT_USERNAME", "ann".into()),
        ("FLUENT_CLIENT_ID", "ACME".into()),
        ("FLUENT_PASSWORD_FILE", password.into()),
        ("FLUENT_CLIENT_SECRET_FILE", secret.into()),
    ];
    Sources {
        environment: variables.map(|(name, value)| (name.into(), value)).into(),
        ..Sources::default()
    }
}

fn watch(sources: Sources) -> Watch {
    let loaded = Settings::load(&sources).unwrap();
    Watch::new(sources, &loaded)
}

#[expect(clippy::disallowed_methods, reason = "tests ask which secrets were read")]
fn secrets(logins: &Logins) -> (String, String) {
    let login = logins.values().next().unwrap().values().next().unwrap();
    let Grant::Password { password, .. } = &login.grant else {
        unreachable!()
    };
    (
        password.expose().to_owned(),
        login.client_secret.expose().to_owned(),
    )
}

async fn changed(watch: &mut Watch) -> (String, String) {
    let patience = Duration::from_secs(20);
    let logins = tokio::time::timeout(patience, watch.changed()).await;
    secrets(logins.expect("no change was seen before the poll"))
}

fn pair(password: &str, secret: &str) -> (String, String) {
    (password.to_owned(), secret.to_owned())
}

#[tokio::test]
async fn rule_1_a_swap_as_kubernetes_does_it_is_seen_and_both_secrets_are_of_one_version() {
    let mut volume = Volume::new("p1", "s1");
    let mut watch = watch(sources(
        &volume.path().join("password"),
        &volume.path().join("secret"),
    ));
    for version in 2..5 {
        let (password, secret) = (format!("p{version}"), format!("s{version}"));
        volume.swap(&password, &secret);
        assert_eq!(changed(&mut watch).await, (password, secret));
    }
}

#[tokio::test]
async fn rule_1_a_rename_and_a_file_that_is_written_over_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (password, secret) = (folder.path().join("password"), folder.path().join("secret"));
    std::fs::write(&password, "p1").unwrap();
    std::fs::write(&secret, "s1").unwrap();
    let mut watch = watch(sources(&password, &secret));
    std::fs::write(&password, "p2\n").unwrap();
    assert_eq!(changed(&mut watch).await, pair("p2", "s1"));
    let new = folder.path().join("new");
    std::fs::write(&new, "s2").unwrap();
    std::fs::rename(&new, &secret).unwrap();
    assert_eq!(changed(&mut watch).await, pair("p2", "s2"));
}

#[tokio::test]
async fn rule_2_what_is_written_bit_by_bit_is_taken_whole() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let (password, secret) = (folder.path().join("password"), folder.path().join("secret"));
    std::fs::write(&password, "p1").unwrap();
    std::fs::write(&secret, "s1").unwrap();
    let mut watch = watch(sources(&password, &secret));
    let writer = tokio::task::spawn_blocking({
        let password = password.clone();
        move || {
            let mut file = std::fs::File::create(password).unwrap();
            for letter in "a-long-password".bytes() {
                file.write_all(&[letter]).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    assert_eq!(changed(&mut watch).await, pair("a-long-password", "s1"));
    writer.await.unwrap();
}

#[tokio::test]
async fn rule_3_what_cannot_be_read_changes_nothing() {
    let mut volume = Volume::new("p1", "s1");
    let mut watch = watch(sources(
        &volume.path().join("password"),
        &volume.path().join("secret"),
    ));
    volume.swap("", "s2");
    assert_eq!(secrets(watch.read_now().await), pair("p1", "s1"));
    volume.swap("p3", "s3");
    assert_eq!(secrets(watch.read_now().await), pair("p3", "s3"));
}

#[tokio::test]
async fn rule_4_nothing_but_credentials_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    let write = |url: &str, scope: &str, password: &str| {
        let text = format!(
            "[fluent]\nurl = \"{url}\"\nscope = \"{scope}\"\nusername = \"ann\"\npassword = \"{password}\"\n\
             client_id = \"ACME\"\nclient_secret = \"s\"\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    write("https://acme.example", "api", "p1");
    let mut watch = watch(Sources {
        file: Some(file.clone()),
        ..Sources::default()
    });
    write("https://other.example", "other", "p2");
    let logins = watch.read_now().await.clone();
    assert_eq!(secrets(&logins), pair("p2", "s"));
    let login = logins.values().next().unwrap().values().next().unwrap();
    assert_eq!(login.endpoint.as_str(), "https://acme.example/oauth/token");
    assert_eq!(login.scope, "api");
}
