//! Services of type ExternalName: names that the gateway looks up, and where they must not lead.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use http::StatusCode;
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use warren_gateway::Names;
use warren_proto::control::{ExternalTarget, HttpRoute};

use crate::support::{Gateway, Upstream, rule, within};

/// Answers every question about an IPv4 address with this one.
async fn name_server(address: Arc<Mutex<Ipv4Addr>>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let bound = socket.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((_, client)) = socket.recv_from(&mut query).await {
            // The question ends with its name's empty label, type and class.
            let end = 12 + query[12..].iter().position(|byte| *byte == 0).expect("a name") + 5;
            let is_ipv4 = query[end - 4..end - 2] == [0, 1];
            let mut answer = query[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_ipv4), 0, 0, 0, 0]);
            if is_ipv4 {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                answer.extend(address.lock().octets());
            }
            let _ = socket.send_to(&answer, client).await;
        }
    });
    bound
}

async fn gateway(address: &Arc<Mutex<Ipv4Addr>>) -> Gateway {
    let server = name_server(address.clone()).await;
    let mut config = NameServerConfig::udp(server.ip());
    config.connections[0].port = server.port();
    Gateway::naming(
        Names::asking(ResolverConfig::from_parts(None, Vec::new(), vec![config])).expect("a resolver"),
    )
}

fn external(port: u16) -> HttpRoute {
    let target =
        ExternalTarget { name: "db.example".into(), port: port.into(), refused: vec!["10.42.0.0/16".into()] };
    HttpRoute { external: Some(target), ..rule("", "/", &[]) }
}

#[tokio::test]
async fn a_name_outside_is_looked_up_and_followed() {
    let address = Arc::new(Mutex::new(Ipv4Addr::LOCALHOST));
    let gateway = gateway(&address).await;
    let upstream = Upstream::named("outside").await;
    gateway.route([external(upstream.address.port())]).await;
    assert_eq!(gateway.client().await.get("a.test", "/").await.text(), "outside");
    // Another address, which the next lookup finds: nobody listens there.
    *address.lock() = Ipv4Addr::new(127, 0, 0, 9);
    let moved = async {
        while gateway.client().await.get("a.test", "/").await.status == StatusCode::OK {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    within("the new address is used", moved).await;
}

#[tokio::test]
async fn a_name_leads_neither_into_the_cluster_nor_to_the_machine() {
    for forbidden in [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(10, 42, 1, 1), Ipv4Addr::UNSPECIFIED] {
        let gateway = gateway(&Arc::new(Mutex::new(forbidden))).await;
        gateway.route([external(80)]).await;
        let answer = gateway.client().await.get("a.test", "/").await;
        assert_eq!(answer.text(), "no ready endpoint for default/web:80 within 5 s\n", "{forbidden}");
    }
}
