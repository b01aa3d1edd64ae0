//! Certificates of Ingresses: by the name that is asked for, and exchanged while clients are connected.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use warren_proto::control::{TlsCertificate, feed_item::Item};

use crate::{
    protocols::trusting,
    support::{Client, Gateway, Upstream, rule},
};

fn certificate(hosts: &[&str]) -> (TlsCertificate, CertificateDer<'static>) {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let pair = KeyPair::generate().expect("a key");
    let signed = CertificateParams::new(hosts.clone()).expect("names").self_signed(&pair).expect("signed");
    let item = TlsCertificate {
        hosts,
        certificate: signed.pem().into_bytes(),
        key: pair.serialize_pem().into_bytes(),
    };
    let der = CertificateDer::from_pem_slice(&item.certificate).expect("a certificate");
    (item, der)
}

async fn connect(gateway: &Gateway, name: &str) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(gateway.https.expect("https")).await.expect("the gateway listens");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    TlsConnector::from(Arc::new(trusting(b"http/1.1"))).connect(name, stream).await.expect("a handshake")
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().expect("a certificate")[0].clone().into_owned()
}

fn items(certificates: &[(&str, &TlsCertificate)]) -> Vec<(String, Item)> {
    let item = |(key, certificate): &(&str, &TlsCertificate)| {
        ((*key).to_owned(), Item::TlsCertificate((*certificate).clone()))
    };
    certificates.iter().map(item).collect()
}

#[tokio::test]
async fn each_name_gets_its_certificate_and_a_new_one_disturbs_nobody() {
    let gateway = Gateway::start();
    let upstream = Upstream::named("served").await;
    let rules = || [rule("", "/", &[upstream.address])];
    let default = { shown(&connect(&gateway, "shop.test").await) };
    let ((shop, shop_der), (wild, wild_der)) = (certificate(&["shop.test"]), certificate(&["*.shop.test"]));
    gateway.put(rules(), items(&[("tls/a/shop", &shop), ("tls/a/wild", &wild)])).await;
    let early = connect(&gateway, "shop.test").await;
    assert_eq!(shown(&early), shop_der);
    assert_eq!(shown(&connect(&gateway, "www.shop.test").await), wild_der);
    assert_eq!(shown(&connect(&gateway, "other.test").await), default);
    let mut client = Client::over(TokioIo::new(early)).await;
    assert_eq!(client.get("shop.test", "/").await.text(), "served");

    let (again, again_der) = certificate(&["shop.test"]);
    gateway.put(rules(), items(&[("tls/a/shop", &again)])).await;
    assert_eq!(shown(&connect(&gateway, "shop.test").await), again_der);
    assert_eq!(shown(&connect(&gateway, "www.shop.test").await), default);
    assert_eq!(client.get("shop.test", "/").await.text(), "served", "the connection goes on");

    let broken = TlsCertificate { key: shop.key.clone(), ..again };
    gateway.put(rules(), items(&[("tls/a/shop", &broken)])).await;
    assert_eq!(shown(&connect(&gateway, "shop.test").await), default, "a key of another certificate");
    assert_eq!(client.get("shop.test", "/").await.text(), "served");
}
