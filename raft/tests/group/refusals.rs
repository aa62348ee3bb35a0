//! Whom a node has nothing to do with, and what the application's requests do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use escapement_raft::{
    DataDirectory, GroupId, IdentityError, Local, NodeId, PeerService, TcpTransport, Transport,
    TransportError,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::cluster::{CLUSTER, Cluster, eventually, options};

const SOON: Duration = Duration::from_secs(5);

async fn stranger(cluster: &str, node: NodeId, disk: u128) -> TcpTransport {
    TcpTransport::listen(Local { cluster: cluster.to_owned(), node, disk }, "127.0.0.1:0").await.unwrap()
}

async fn refusal(transport: &TcpTransport, address: &str) -> String {
    match transport.hello(address, GroupId(0), SOON).await {
        Err(TransportError::Refused { reason, .. }) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_with_the_reason() {
    let cluster = Cluster::form(1, options()).await;
    let address = cluster.nodes[&1].address.peer.clone();
    let welcome = stranger(CLUSTER, 7, 7).await;
    let hello = welcome.hello(&address, GroupId(0), SOON).await.unwrap();
    assert_eq!((hello.node, hello.pristine, hello.cluster.as_str()), (1, Some(false), CLUSTER));
    let words = refusal(&stranger("other", 7, 7).await, &address).await;
    assert_eq!(words, "this is cluster \"test\", not \"other\"");
    let words = refusal(&stranger(CLUSTER, 1, 7).await, &address).await;
    assert_eq!(words, "disk lost: remove node 1 and add it under a new id");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_frame_version_is_refused_by_name() {
    let cluster = Cluster::form(1, options()).await;
    let mut stream = tokio::net::TcpStream::connect(&cluster.nodes[&1].address.peer).await.unwrap();
    stream.write_all(&[21, 0, 0, 0, 2, 0, 0, 0, 0]).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let words = b"this node speaks frame version 1; peer sent 2";
    assert!(answer.windows(words.len()).any(|window| window == words), "{answer:?}");

    // And the other way round: a peer that answers in another version.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let peer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&[21, 0, 0, 0, 3, 0, 0, 0, 0]).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.ok();
    });
    let words = refusal(&stranger(CLUSTER, 7, 7).await, &address).await;
    assert_eq!(words, "this node speaks frame version 1; peer sent 3");
    peer.abort();
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_a_directory_is_refused() {
    let mut cluster = Cluster::form(1, options()).await;
    let second = DataDirectory::open(cluster.path(1), CLUSTER, 1);
    assert!(matches!(second, Err(IdentityError::InUse { .. })));
    assert!(second.unwrap_err().to_string().ends_with("is in use by another process"));
    cluster.stop(1).await;
    DataDirectory::open(cluster.path(1), CLUSTER, 1).unwrap();
}

struct Echo(NodeId);

impl PeerService for Echo {
    fn handle(&self, from: NodeId, request: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let here = self.0;
        async move {
            match &request[..] {
                b"fail" => Err("as asked".to_owned()),
                b"slow" => {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    Ok(request)
                }
                other => Ok(Bytes::from(format!("{from}>{here}:{}", String::from_utf8_lossy(other)))),
            }
        }
        .boxed()
    }
}

/// The application's requests share a connection without waiting for each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_asks_its_peers_many_things_at_once() {
    let cluster = Cluster::form(3, options()).await;
    let echoes: Vec<Arc<dyn PeerService>> = cluster
        .nodes
        .values()
        .map(|node| {
            let echo: Arc<dyn PeerService> = Arc::new(Echo(node.id));
            node.transport.register(Arc::downgrade(&echo));
            echo
        })
        .collect();
    let from = &cluster.nodes[&1].transport;
    let slow = from.request(2, Bytes::from_static(b"slow"), Duration::from_millis(300));
    let many = (0..200)
        .map(|i| async move { (i, from.request(2, Bytes::from(i.to_string()), SOON).await.unwrap()) });
    for (i, answer) in futures::future::join_all(many).await {
        assert_eq!(answer, Bytes::from(format!("1>2:{i}")));
    }
    assert!(matches!(slow.await, Err(TransportError::Timeout { .. })));
    let failed = from.request(3, Bytes::from_static(b"fail"), SOON).await;
    assert!(matches!(failed, Err(TransportError::Remote { reason, .. }) if reason == "as asked"));
    let unknown = from.request(9, Bytes::new(), SOON).await;
    assert!(matches!(unknown, Err(TransportError::Unreachable { .. })));
    drop(echoes);
    let stopped = from.request(3, Bytes::new(), SOON).await;
    assert!(matches!(stopped, Err(TransportError::Remote { reason, .. }) if reason == "node 3 has stopped"));
    cluster.stop_all().await;
}

/// What was sent may have been carried out, though its node is gone before it answers: that is not "unreachable".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_connection_breaks_may_have_arrived() {
    let mut cluster = Cluster::form(3, options()).await;
    let arrived = Arc::new(Notify::new());
    let deaf: Arc<dyn PeerService> = Arc::new(Deaf(arrived.clone()));
    cluster.nodes[&2].transport.register(Arc::downgrade(&deaf));
    let from = cluster.nodes[&1].transport.clone();
    let asked = tokio::spawn(async move { from.request(2, Bytes::from_static(b"do it"), SOON).await });
    arrived.notified().await;
    cluster.stop(2).await;
    let answer = asked.await.unwrap();
    assert!(matches!(answer, Err(TransportError::Interrupted { .. })), "{answer:?}");
    cluster.stop_all().await;
}

/// Hears a request and never answers it.
struct Deaf(Arc<Notify>);

impl PeerService for Deaf {
    fn handle(&self, _: NodeId, _: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        self.0.notify_one();
        futures::future::pending().boxed()
    }
}

/// An ordinary end is no failure, and whoever forgets the shutdown stops all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_and_a_dropped_group_give_their_directory_back() {
    let mut cluster = Cluster::form(1, options()).await;
    let failed = cluster.nodes[&1].group.failed();
    cluster.stop(1).await;
    assert!(failed.now_or_never().is_none());
    cluster.restart(1).await;
    let path = cluster.path(1);
    drop(cluster.nodes.remove(&1));
    eventually("the directory is free", || DataDirectory::open(&path, CLUSTER, 1).is_ok()).await;
}
