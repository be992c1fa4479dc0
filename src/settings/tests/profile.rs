//! Profiles of Fluent's command-line tool.

use super::*;

const PROFILE: &str = r#"{"id": "ACME", "baseUrl": "https://acme.sandbox.api.fluentretail.com",
    "clientSecret": "hunter3", "user": "ann"}"#;
const USER: &str = r#"{"username": "ann", "password": "hunter2"}"#;

/// A profile `shop` in the folder of the trial, which the variable names.
fn trial(profile: &str, user: &str) -> Trial {
    let trial = Trial::new();
    std::fs::create_dir(trial.path("shop")).unwrap();
    let trial = trial
        .write("shop/profile.json", profile)
        .write("shop/user.ann.json", user);
    let folder = trial.folder.path().as_os_str().to_owned();
    trial
        .variable("FLUENT_PROFILE_DIR", folder)
        .file("fluent.profile = \"shop\"")
}

#[test]
fn a_profile_gives_url_client_and_user_and_is_watched() {
    let trial = trial(PROFILE, USER);
    let loaded = trial.load();
    let fluent = &loaded.settings.instances["default"];
    assert_eq!(fluent.url.as_str(), "https://acme.sandbox.api.fluentretail.com/");
    let login = &fluent.users["default"];
    assert_eq!(
        (login.client_id.as_str(), exposed(&login.client_secret)),
        ("ACME", "hunter3")
    );
    let own = password(&loaded.settings, "default", "default");
    assert_eq!(own, ("ann".into(), "hunter2".into()));
    let files = ["shop/profile.json", "shop/user.ann.json"].map(|name| trial.path(name));
    assert_eq!(loaded.secret_files, files);
}

#[test]
fn what_is_set_elsewhere_wins_over_a_profile_and_a_profile_over_defaults() {
    let trial = trial(PROFILE, USER).write("pw", "hunter9\n");
    let path = trial.path("pw");
    let settings = trial.variable("FLUENT_PASSWORD_FILE", path).settings();
    let own = password(&settings, "default", "default");
    assert_eq!(own, ("ann".into(), "hunter9".into()));
}

#[test]
fn a_secret_of_a_profile_goes_with_no_other_name() {
    let problem = trial(PROFILE, USER).variable("FLUENT_USERNAME", "bob").problem();
    assert!(problem.contains("fluent.password is not set"), "{problem}");
    let problem = trial(PROFILE, USER)
        .variable("FLUENT_CLIENT_ID", "OTHER")
        .problem();
    assert!(problem.contains("fluent.client_secret is not set"), "{problem}");
}

#[test]
fn no_user_of_a_profile_is_read_where_none_logs_in() {
    let nobody = PROFILE.replace("\"ann\"", "\"bob\"");
    let loaded = trial(&nobody, USER)
        .variable("FLUENT_GRANT_TYPE", "client_credentials")
        .load();
    let login = &loaded.settings.instances["default"].users["default"];
    assert_eq!(
        (login.grant.name(), loaded.secret_files.len()),
        ("client_credentials", 1)
    );
}

#[test]
fn who_asks_for_the_admin_address_reads_no_profile() {
    let trial = trial("no JSON", USER);
    admin_address(&trial.sources).unwrap();
}

#[test]
fn the_home_folder_has_the_profiles_where_no_variable_names_another() {
    let trial = Trial::new();
    std::fs::create_dir_all(trial.path(".fluentcommerce/shop")).unwrap();
    let trial = trial
        .write(".fluentcommerce/shop/profile.json", PROFILE)
        .write(".fluentcommerce/shop/user.ann.json", USER);
    let home = trial.folder.path().as_os_str().to_owned();
    let trial = trial.variable("HOME", home).set("fluent.profile=shop");
    let own = password(&trial.settings(), "default", "default");
    assert_eq!(own, ("ann".into(), "hunter2".into()));
}

#[test]
fn each_instance_may_have_a_profile_of_its_own() {
    let trial = NEEDED_VARIABLES
        .iter()
        .fold(trial(PROFILE, USER), |trial, (name, value)| {
            trial.variable(name, value)
        })
        .file("instances.eu.profile = \"shop\"");
    let settings = trial.settings();
    let (default, eu) = (
        password(&settings, "default", "default"),
        password(&settings, "eu", "default"),
    );
    assert_eq!(default.0, "integration");
    assert_eq!(eu, ("ann".into(), "hunter2".into()));
}

#[test]
fn what_is_wrong_with_a_profile_is_told_by_file_and_field() {
    let row = |profile: &str, user: &str, sentence: &str| {
        assert_eq!(
            trial(profile, user).problem(),
            format!("proxy.toml:1:18: fluent.profile {sentence}")
        );
    };
    row(
        "hunter",
        USER,
        "leads to shop/profile.json, which is not JSON (line 1, column 1)",
    );
    row(
        "[1]",
        USER,
        "leads to shop/profile.json, which holds no JSON object",
    );
    row(
        PROFILE,
        r#"{"username": "ann", "password": 1}"#,
        "leads to shop/user.ann.json, whose field password is no text",
    );
    let elsewhere = PROFILE.replace("\"ann\"", "\"../hunter\"");
    row(
        &elsewhere,
        USER,
        "leads to shop/profile.json, whose field user is not the name of a user",
    );
    let nobody = PROFILE.replace("\"ann\"", "\"bob\"");
    row(
        &nobody,
        USER,
        "leads to shop/user.bob.json, which cannot be read: No such file or directory (os error 2)",
    );
    let endless = trial(PROFILE, USER);
    let path = endless.path("shop/user.ann.json");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    let told = endless.problem();
    assert!(
        told.contains("user.ann.json, which cannot be read: it is longer than 1024 KiB"),
        "{told}"
    );
    let homeless = Trial::new().set("fluent.profile=shop").problem();
    assert!(
        homeless.starts_with("--set: fluent.profile cannot be found, as there is no home folder"),
        "{homeless}"
    );
}

#[test]
fn a_wrong_value_in_a_profile_is_told_with_its_place() {
    let profile = PROFILE.replace(".com\"", ".com/graphql\"");
    let problem = trial(&profile, USER).problem();
    assert!(
        problem.starts_with("shop/profile.json (baseUrl): fluent.url "),
        "{problem}"
    );
}
