//! The one TLS port, with real clients: who gets in, who does not, and what a join needs.

use std::{net::SocketAddr, path::Path};

use http::{Request, StatusCode};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use warren_proto::control::Role;
use warren_runtime::{
    CancellationToken,
    connection::Controller,
    identity::{Identity, JoinError, join},
    tasks::Bound,
};

struct Fixture {
    directory: tempfile::TempDir,
    stop: CancellationToken,
    bound: Option<Bound>,
    address: SocketAddr,
}

impl Fixture {
    async fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory")).await
    }

    async fn start_in(directory: tempfile::TempDir) -> Self {
        let stop = CancellationToken::new();
        let config = warren_controller::Config {
            data_dir: directory.path().join("data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            sans: vec!["controller.test".into()],
            advertise: None,
            networks: Default::default(),
            restore: None,
            quarantine: Vec::new(),
        };
        let bound = warren_controller::run(config, stop.clone()).await.expect("the controller starts");
        let address = bound.address("api").expect("it listens");
        Self { directory, stop, bound: Some(bound), address }
    }

    async fn end(mut self) -> tempfile::TempDir {
        self.stop.cancel();
        self.bound.take().expect("running").tasks.wait().await.expect("a clean end");
        self.directory
    }

    fn kubeconfig(&self) -> Kubeconfig {
        Kubeconfig::read_from(self.directory.path().join("data/admin.kubeconfig")).expect("a kubeconfig")
    }

    async fn client(&self, kubeconfig: Kubeconfig) -> Client {
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .expect("a usable kubeconfig");
        // A restarted fixture listens on another port than the one its kubeconfig was written for.
        config.cluster_url = format!("https://127.0.0.1:{}", self.address.port()).parse().expect("a URL");
        Client::try_from(config).expect("a client")
    }

    async fn administrator(&self) -> Client {
        self.client(self.kubeconfig()).await
    }

    async fn anonymous(&self) -> Client {
        let mut kubeconfig = self.kubeconfig();
        let user = kubeconfig.auth_infos[0].auth_info.as_mut().expect("a user");
        user.client_certificate_data = None;
        user.client_key_data = None;
        self.client(kubeconfig).await
    }

    async fn token(&self) -> String {
        let request = Request::post("/warren/v1/tokens").body(Vec::new()).expect("a request");
        let answer: serde_json::Value = self.administrator().await.request(request).await.expect("a token");
        answer["token"].as_str().expect("text").to_owned()
    }

    fn join<'a>(
        &self,
        token: &'a str,
        name: &'a str,
    ) -> impl Future<Output = Result<Identity, JoinError>> + use<'a> {
        let address = self.address.to_string();
        async move { join(&address, token, name, Role::Node).await }
    }
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("expected a Kubernetes status, got {other:?}"),
    }
}

#[tokio::test]
async fn the_administrator_gets_in_and_the_anonymous_do_not() {
    let fixture = Fixture::start().await;
    let namespaces: Api<Namespace> = Api::all(fixture.administrator().await);
    let names: Vec<_> = namespaces
        .list(&ListParams::default())
        .await
        .expect("listed")
        .into_iter()
        .filter_map(|n| n.metadata.name)
        .collect();
    assert_eq!(names, ["default", "kube-node-lease", "kube-public", "kube-system"]);

    let anonymous = fixture.anonymous().await;
    let namespaces: Api<Namespace> = Api::all(anonymous.clone());
    assert_eq!(code(&namespaces.list(&ListParams::default()).await.expect_err("anonymous")), 403);
    let tokens = Request::get("/warren/v1/tokens").body(Vec::new()).expect("a request");
    assert_eq!(code(&anonymous.request::<serde_json::Value>(tokens).await.expect_err("anonymous")), 401);
    let health = Request::get("/readyz").body(Vec::new()).expect("a request");
    assert_eq!(anonymous.request_text(health).await.expect("health is for all"), "ok");
    fixture.end().await;
}

#[tokio::test]
async fn a_token_works_once_and_pins_the_authority() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let (pinned, _) = token.rsplit_once('.').expect("four parts");
    let foreign = format!("{pinned}.{}", "0".repeat(64));
    match fixture.join(&foreign, "node-1").await {
        Err(error @ JoinError::WrongAuthority { .. }) => {
            assert!(error.to_string().contains("warren token create"))
        }
        other => panic!("another authority must be refused, got {other:?}"),
    }
    let forged = format!("wrn1.nobody.secret.{}", token.rsplit_once('.').expect("four parts").1);
    match fixture.join(&forged, "node-1").await {
        Err(JoinError::Refused(message)) => assert!(message.contains("warren token create"), "{message}"),
        other => panic!("an unknown token must be refused, got {other:?}"),
    }
    let identity = fixture.join(&token, "node-1").await.expect("a fresh token");
    assert!(fixture.join(&token, "node-2").await.is_err(), "the token was used");

    let state = tempfile::tempdir().expect("a directory");
    identity.save(state.path()).expect("saved");
    let controller = Controller::new(&fixture.address.to_string(), identity, state.path().to_owned());
    controller.channel().await.expect("the certificate is accepted");
    fixture.end().await;
}

#[tokio::test]
async fn a_member_is_no_administrator() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let identity = fixture.join(&token, "node-1").await.expect("joined");
    let mut kubeconfig = fixture.kubeconfig();
    let user = kubeconfig.auth_infos[0].auth_info.as_mut().expect("a user");
    let encode = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    user.client_certificate_data = Some(encode(&identity.certificate_pem));
    user.client_key_data = Some(encode(&identity.key_pem).into());
    let member = fixture.client(kubeconfig).await;
    let namespaces: Api<Namespace> = Api::all(member.clone());
    let error =
        namespaces.list(&ListParams::default()).await.expect_err("a node reads its feed, not the API");
    assert_eq!(code(&error), StatusCode::FORBIDDEN.as_u16());
    let tokens = Request::post("/warren/v1/tokens").body(Vec::new()).expect("a request");
    assert_eq!(code(&member.request::<serde_json::Value>(tokens).await.expect_err("not a master")), 403);
    fixture.end().await;
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let fixture = Fixture::start().await;
    let namespaces: Api<Namespace> = Api::all(fixture.administrator().await);
    let uid = namespaces.get("default").await.expect("it exists").metadata.uid;
    let kubeconfig = std::fs::read(kubeconfig_path(fixture.directory.path())).expect("readable");
    let directory = fixture.end().await;

    let fixture = Fixture::start_in(directory).await;
    assert_eq!(std::fs::read(kubeconfig_path(fixture.directory.path())).expect("readable"), kubeconfig);
    let namespaces: Api<Namespace> = Api::all(fixture.administrator().await);
    assert_eq!(namespaces.get("default").await.expect("it exists").metadata.uid, uid);
    fixture.end().await;
}

fn kubeconfig_path(directory: &Path) -> std::path::PathBuf {
    directory.join("data/admin.kubeconfig")
}

#[tokio::test]
async fn a_backup_is_for_administrators_and_whole_and_a_rotation_changes_the_key() {
    let fixture = Fixture::start().await;
    let get = || Request::get("/warren/v1/backup").body(kube::client::Body::empty()).expect("a request");
    let refused = fixture.anonymous().await.send(get()).await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);

    let administrator = fixture.administrator().await;
    let mut summaries = Vec::new();
    let key_file = fixture.directory.path().join("data/keys/secrets.key");
    let before = std::fs::read(&key_file).expect("a key file");
    for _ in 0..2 {
        let answer = administrator.send(get()).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let bytes = answer.into_body().collect_bytes().await.expect("whole");
        summaries.push(warren_controller::backup::verify(&bytes[..]).expect("a backup"));
        let rotate = Request::post("/warren/v1/secrets/rotate").body(Vec::new()).expect("a request");
        let rotated: serde_json::Value = administrator.request(rotate).await.expect("rotated");
        assert!(rotated["key"].is_string(), "{rotated}");
    }
    assert!(summaries[0].objects >= 4 && summaries[0].epoch == summaries[1].epoch);
    assert_ne!(std::fs::read(&key_file).expect("a key file"), before);
    fixture.end().await;
}
