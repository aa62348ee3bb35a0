//! Becomes a node: reads the configuration, puts the node together, serves until told to stop.
//!
//! The log has threads of its own, so that neither a slow answer nor a slow actor costs an election; the actors share the
//! main thread; HTTP workers have theirs.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use escapement_actors::ports::{Clock, Entropy, Executors};
use escapement_actors::projection::{Projections, Pruned};
use escapement_domain::command::{Offers, Programs};
use escapement_domain::identifier::NodeId;
use escapement_raft::{
    Address, DataDirectory, Formation, IdentityError, MemoryNetwork, Options, TcpTransport, Transport,
};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::assembly::{AssemblyError, Node, Parts, Surroundings};
use super::clock::{SystemClock, SystemEntropy};
use super::observer::{MetricsObserver, count_outcomes};
use super::retention::Retention;
use crate::config::{Config, ConfigError, NodeConfig};
use crate::executor::{
    Callbacks, ExecutorOptions, Housekeeping, ProcessPolicy, executors, take_all_descriptors,
};
use crate::http::{self, ServeError};
use crate::security::{KeyError, Keys, MintError, Role, create_secret, random_secret, write_secret};
use crate::store::{OpenError, SledStorage, StorageOptions};
use crate::telemetry::{LoggingError, Metrics, start_logging};

/// How long what runs may take to end after the signal to stop; the rest of the ten seconds is for handing over.
const DRAIN: Duration = Duration::from_secs(6);
/// How long the administrator's token of a development node is good.
const DEV_TOKEN: Duration = Duration::from_secs(366 * 24 * 3600);
/// Threads that answer HTTP calls.
const HTTP_WORKERS: usize = 2;

/// A node for development.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// Where its HTTP API listens.
    pub listen: SocketAddr,
    /// Its directory.
    pub data: PathBuf,
}

/// A node of a cluster.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The cluster's configuration.
    pub config: PathBuf,
    /// Which node this is.
    pub node: NodeId,
    /// Whether it waits to be added.
    pub join: bool,
}

/// Why a node does not run, or runs no more.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The keys for tokens.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The administrator's token.
    #[error(transparent)]
    Token(#[from] MintError),
    /// Log lines.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// The data directory.
    #[error(transparent)]
    Directory(#[from] IdentityError),
    /// The read models.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// The node.
    #[error(transparent)]
    Assembly(#[from] AssemblyError),
    /// The HTTP API.
    #[error(transparent)]
    Http(#[from] ServeError),
    /// The peers' address.
    #[error("cannot listen for peers on {address}: {source}")]
    Peer {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The operating system.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The node can no longer be trusted.
    #[error("this node stopped and must not go on: {0}")]
    Failed(String),
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> RunError {
    move |source| RunError::System { what, source }
}

/// Runs a node for development until it is told to stop.
///
/// # Errors
/// [`RunError`].
pub fn run_dev(options: &DevOptions) -> Result<(), RunError> {
    let unused = SocketAddr::new(options.listen.ip(), 1);
    let config = Config::dev(options.listen, unused, &options.data, Config::variables())?;
    std::fs::create_dir_all(&options.data).map_err(system("the data directory cannot be made"))?;
    let node = config.node(NodeId(1))?.clone();
    let directory = DataDirectory::open(&node.data, &config.cluster, node.id.0)?;
    create_secret(&options.data.join("jwt.key"), random_secret(&SystemEntropy).as_bytes())
        .map_err(system("the key for tokens cannot be written"))?;
    let keys = config.keys.load()?;
    let roles = [Role::Admin, Role::ClusterAdmin];
    let token = keys.mint("admin", "acme", &roles, DEV_TOKEN, SystemClock.now())?;
    let token_file = options.data.join("admin.token");
    write_secret(&token_file, token.as_bytes())
        .map_err(system("the administrator's token cannot be written"))?;
    let url = format!("http://{}", options.listen);
    let greeting = format!(
        "Escapement is ready at {url}\nThe administrator's token is in {} (tenant acme)\nTry: escapement task list",
        token_file.display()
    );
    let membership = Membership::Alone;
    run(Plan { config, node, directory, keys, membership, greeting })
}

/// Runs a node of a cluster until it is told to stop.
///
/// # Errors
/// [`RunError`].
pub fn run_server(options: &ServerOptions) -> Result<(), RunError> {
    let config = Config::load(&options.config)?;
    let node = config.node(options.node)?.clone();
    let keys = config.keys.load()?;
    std::fs::create_dir_all(&node.data).map_err(system("the data directory cannot be made"))?;
    let directory = DataDirectory::open(&node.data, &config.cluster, node.id.0)?;
    let membership = if options.join { Membership::Join } else { Membership::Together };
    let greeting = format!("Node {} of {} serves http://{}", node.id, config.cluster, node.api);
    run(Plan { config, node, directory, keys, membership, greeting })
}

/// How a node comes to its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Membership {
    /// It has none, and no port for them.
    Alone,
    /// With the other nodes of its file.
    Together,
    /// By being added.
    Join,
}

/// Everything that is known before anything runs.
struct Plan {
    config: Config,
    node: NodeConfig,
    directory: DataDirectory,
    keys: Keys,
    membership: Membership,
    greeting: String,
}

fn run(plan: Plan) -> Result<(), RunError> {
    start_logging(plan.config.telemetry.log_format, &plan.config.telemetry.level)?;
    take_all_descriptors();
    let log_runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("log")
        .enable_all()
        .build()
        .map_err(system("the log's threads cannot be started"))?;
    let outcome = actix_web::rt::System::new().block_on(serve(plan, &log_runtime));
    log_runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

async fn serve(plan: Plan, log_runtime: &Runtime) -> Result<(), RunError> {
    let stop = stop_signal()?;
    let Plan { config, node: place, directory, keys, membership, greeting } = plan;
    let metrics = Metrics::new(place.id.0);
    let (transport, formation) = peers(&config, &place, &directory, membership, log_runtime).await?;
    let storage = SledStorage::open(
        &place.data.join("store"),
        &StorageOptions { cache_bytes: config.storage.cache_bytes },
    )?;
    let node = Node::start(Parts {
        node: place.id,
        machine: Arc::default(),
        raft: log_options(&config),
        disk: directory.into(),
        transport,
        formation,
        storage: Arc::new(storage),
        log_runtime: Some(log_runtime.handle().clone()),
        surroundings: surroundings(&config, &place, &keys, &metrics),
    })
    .await?;
    let server = http::serve(&[place.api], node.service.clone(), keys, metrics.clone(), HTTP_WORKERS)?;
    actix_web::rt::spawn(Retention::of(&config.execution).keep_up(node.projections.clone()));
    actix_web::rt::spawn(count_outcomes(node.machine.clone(), metrics.clone()));
    actix_web::rt::spawn(keep_metrics(
        node.machine.clone(),
        node.projections.clone(),
        node.group.clone(),
        metrics,
    ));
    if membership == Membership::Alone {
        wait_for_leader(&node).await;
    }
    println!("{greeting}");
    let failure = tokio::select! {
        () = stop => None,
        reason = node.failed() => Some(reason),
    };
    if let Some(reason) = failure {
        tracing::error!(%reason, "this node stops");
        server.stop().await;
        return Err(RunError::Failed(reason));
    }
    tracing::info!("stopping: what runs may end, then the leadership is handed over");
    node.stop(DRAIN).await;
    server.stop().await;
    Ok(())
}

fn stop_signal() -> Result<impl Future<Output = ()>, RunError> {
    let refused = "signals cannot be heard";
    let mut terminate = signal(SignalKind::terminate()).map_err(system(refused))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system(refused))?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

async fn peers(
    config: &Config,
    place: &NodeConfig,
    directory: &DataDirectory,
    membership: Membership,
    log_runtime: &Runtime,
) -> Result<(Arc<dyn Transport>, Formation), RunError> {
    let address = |node: &NodeConfig| Address { api: node.api.to_string(), peer: node.peer.to_string() };
    let together =
        || Formation::Together(config.nodes.iter().map(|node| (node.id.0, address(node))).collect());
    if membership == Membership::Alone {
        let transport = MemoryNetwork::new().connect(directory.local(), "itself");
        return Ok((Arc::new(transport), together()));
    }
    let (local, listen) = (directory.local(), place.peer.to_string());
    let listening = log_runtime.spawn(async move { TcpTransport::listen(local, &listen).await });
    let listened = listening.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    let transport = listened.map_err(|source| RunError::Peer { address: place.peer, source })?;
    let formation = if membership == Membership::Join { Formation::Join } else { together() };
    Ok((Arc::new(transport), formation))
}

fn log_options(config: &Config) -> Options {
    let raft = &config.raft;
    Options {
        heartbeat: raft.heartbeat,
        election_min: raft.election_min,
        election_max: raft.election_max,
        snapshot_entries: raft.snapshot_entries,
        snapshot_bytes: raft.snapshot_bytes,
        log_entries_kept: raft.log_entries_kept,
        log_cache_bytes: raft.log_cache_bytes,
        ..Options::new(&config.cluster)
    }
}

fn surroundings(config: &Config, place: &NodeConfig, keys: &Keys, metrics: &Metrics) -> Surroundings {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let execution = config.execution.clone();
    let programs = match &execution.process {
        ProcessPolicy::Any => Programs::Any,
        ProcessPolicy::Listed(listed) => {
            Programs::Listed(listed.iter().map(|path| path.as_str().into()).collect())
        }
    };
    let callbacks = Callbacks::new(place.id, &place.public_url, clock.clone(), entropy.clone());
    let callbacks = match keys.secret_for("lease tokens") {
        Some(shared) => callbacks.made_from(&shared),
        None => callbacks,
    };
    let options = ExecutorOptions {
        process: execution.process.clone(),
        process_user: execution.process_user.clone(),
        egress: execution.egress.clone(),
        output_bytes: execution.output_bytes,
        work: place.data.join("work"),
        callbacks: callbacks.clone(),
    };
    let (retention, slots, at) = (Retention::of(&execution), execution.slots, clock.clone());
    let make = move |projections: &Projections| -> Result<Executors, String> {
        executors(options, &at, housekeeping(projections.clone(), at.clone(), retention))
            .map_err(|error| error.to_string())
    };
    Surroundings {
        clock,
        entropy,
        callbacks,
        executors: Box::new(make),
        slots,
        offers: Offers { http: execution.http, builtin: execution.builtin, programs },
        observer: Arc::new(MetricsObserver::new(metrics.clone())),
    }
}

/// Lets a task remove what is older than the retention on the node that runs it.
fn housekeeping(projections: Projections, clock: Arc<dyn Clock>, retention: Retention) -> Housekeeping {
    Arc::new(move || {
        let (projections, clock) = (projections.clone(), clock.clone());
        Box::pin(async move {
            let Pruned { executions, output } = retention.enforce(&projections, &*clock).await?;
            Ok(format!(r#"{{"executions_removed":{executions},"output_removed":{output}}}"#))
        })
    })
}

async fn wait_for_leader(node: &Node) {
    let mut leadership = escapement_actors::ports::Log::leadership(&*node.log);
    let _ = leadership.wait_for(|now| now.leader.is_some()).await;
}

/// Keeps those metrics that are states rather than happenings.
async fn keep_metrics(
    machine: Arc<escapement_actors::machine::Machine>,
    projections: Projections,
    group: escapement_raft::Group,
    metrics: Metrics,
) {
    let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        machine.read(|replica| {
            metrics.queue_depth.set(number(replica.queue().len()));
            metrics.breakers_are(replica.queue().breakers().map(|(_, _, known)| known.state.name()));
        });
        metrics.read_model_lag.set(projections.lag());
        metrics.applied_index.set(machine.applied());
        metrics.log_last_index.set(group.status().last.unwrap_or_default());
    }
}
