//! Five thousand connections that dawdle, and an appliance that may have 1,024 files open: each is
//! closed within ten seconds, one certificate holds no more than a quarter of the places, and good
//! clients do not notice.

#![expect(clippy::print_stdout, reason = "the figures are for people to see")]

use std::{
    fmt, fs, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use harness::{
    Doing, Failure, Story,
    https::Identity,
    office::{Office, http_get},
    process::wait_until,
};
use rustix::process::{Resource, getrlimit, setrlimit};
use rustls::{ClientConnection, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    runtime,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How many connections dawdle, in all.
const CROWD: usize = 5_000;

/// The most files that the appliance may have open.
const FILES: u32 = 1_024;

/// Its places for clients of the API: three quarters of what its own files leave.
const PLACES: usize = (FILES as usize - 128) / 4 * 3;

/// How many of the crowd open their connections at once. That bounds what their handshakes take
/// of the processors, which is not what this story is about.
const OPENING: usize = 16;

/// Within this time a slow client is closed; a second is for a busy machine.
const LIMIT: Duration = Duration::from_secs(10 + 1);

/// How long each dawdles between two bytes.
const STEP: Duration = Duration::from_millis(500);

/// Figure R12: what a good client waits, but for one request of a hundred.
const GOOD: Duration = Duration::from_millis(500);

/// By which spans the latencies of good clients are looked at.
const WINDOW: Duration = Duration::from_secs(3);

/// The stories of this file take turns: the one is about how long answers take.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn five_thousand_slow_connections_keep_no_good_client_out() -> Story {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    raise_own_limit()?;
    let mut office = small_office()?;
    let alone = good_clients_while(&office, || {
        thread::sleep(WINDOW);
        Ok(())
    })?;
    println!("good clients alone: {alone}");

    let crowd = Crowd::new(&office)?;
    let id = office.appliance()?.id();
    let mut most = (0, 0);
    let good = good_clients_while(&office, || {
        thread::scope(|scope| {
            let dawdling = scope.spawn(|| crowd.dawdle());
            while !dawdling.is_finished() {
                most.0 = most.0.max(connections(&office)?);
                most.1 = most.1.max(open_files(id)?);
                thread::sleep(Duration::from_millis(100));
            }
            dawdling.join().map_err(|_| Failure::new("the crowd panicked"))?
        })
    })?;
    println!("good clients in the crowd: {good}");
    println!("at most {} connections of {PLACES} and {} files of {FILES}", most.0, most.1);
    assert!(most.0 <= PLACES && most.0 > PLACES / 2, "{} connections", most.0);
    assert!(good.median_p99() < GOOD, "{good}");
    wait_until("the crowd has gone", LIMIT, || Ok(connections(&office)? == 0))?;
    assert_never_out_of_files(&mut office)
}

#[test]
fn one_certificate_holds_no_more_than_a_quarter_of_the_places() -> Story {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    raise_own_limit()?;
    let mut office = small_office()?;
    let mallory = Door::new(&office, &office.enrol("user/mallory")?)?;
    for dawdling in [Dawdling::Idle, Dawdling::Body] {
        let tally = Arc::new(Tally::default());
        let crowd = (0..PLACES).map(|_| (dawdling, mallory.clone()));
        thread::scope(|scope| {
            let crowd = scope.spawn(|| dawdle(crowd, &tally));
            let all = || Ok(tally.begun.load(Ordering::Relaxed) == PLACES);
            wait_until("all came", 6 * LIMIT, all)?;
            // Far sooner than the time limit of any that came lately.
            let few = || Ok(tally.open.load(Ordering::Relaxed) <= PLACES / 4);
            wait_until("all but a quarter of the places went", LIMIT / 5, few)?;
            crowd.join().map_err(|_| Failure::new("the crowd panicked"))?
        })?;
    }
    assert_never_out_of_files(&mut office)
}

/// An office whose appliance may have few files open.
fn small_office() -> Result<Office, Failure> {
    let mut office = Office::open()?;
    office.limit_files(FILES);
    office.restart()?;
    Ok(office)
}

/// The crowd needs more files than a process is given at first.
fn raise_own_limit() -> Story {
    let wanted = CROWD as u64 + 1_000;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        return Err(Failure::new(format!("the limit of open files is {:?}", limit.maximum))
            .hint(format!("raise the hard limit to {wanted}: `ulimit -Hn`")));
    }
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).doing("raise the limit of open files")
}

/// How a connection dawdles.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Dawdling {
    /// TCP, and not a byte.
    Silent,
    /// Half a ClientHello, byte by byte.
    Hello,
    /// TLS, and not a byte.
    Tls,
    /// The head of a request, byte by byte.
    Head,
    /// The body of a request, byte by byte.
    Body,
    /// Nothing after a request that was answered.
    Idle,
}

impl Dawdling {
    const ALL: [Self; 6] =
        [Self::Silent, Self::Hello, Self::Tls, Self::Head, Self::Body, Self::Idle];
}

/// Who dawdles: one half has one certificate, the other half shares some.
struct Crowd {
    mallory: Door,
    others: Vec<Door>,
}

impl Crowd {
    /// As many as would take all places if each took its quarter.
    fn new(office: &Office) -> Result<Self, Failure> {
        let door = |number| Door::new(office, &office.enrol(&format!("user/mallory-{number}"))?);
        Ok(Self { mallory: door(0)?, others: (1..=5).map(door).collect::<Result<_, _>>()? })
    }

    fn dawdle(&self) -> Story {
        let door = |number: usize| match number % 2 {
            0 => self.mallory.clone(),
            _ => self.others[number / 2 % self.others.len()].clone(),
        };
        let kinds = Dawdling::ALL.len();
        let crowd = (0..CROWD).map(|number| (Dawdling::ALL[number % kinds], door(number / kinds)));
        let tally = Arc::new(Tally::default());
        dawdle(crowd, &tally)?;
        let put_out = tally.put_out.load(Ordering::Relaxed);
        println!("{put_out} of {CROWD} were put out before they could dawdle");
        assert!(put_out < CROWD / 4);
        Ok(())
    }
}

/// What becomes of those who dawdle.
#[derive(Default)]
struct Tally {
    /// How many have begun to.
    begun: AtomicUsize,
    /// How many have, and are not closed.
    open: AtomicUsize,
    /// How many had to make room even before.
    put_out: AtomicUsize,
}

/// Lets all of them dawdle, and waits until each was closed; none may last longer than it may.
fn dawdle(crowd: impl Iterator<Item = (Dawdling, Door)>, tally: &Arc<Tally>) -> Story {
    block_on(async {
        let opening = Arc::new(Semaphore::new(OPENING));
        let mut all = JoinSet::new();
        for (dawdling, door) in crowd {
            let permit = opening.clone().acquire_owned().await.doing("wait for a permit")?;
            let tally = tally.clone();
            all.spawn(async move {
                let client = door.begin(dawdling).await;
                drop(permit);
                tally.begun.fetch_add(1, Ordering::Relaxed);
                tally.open.fetch_add(1, Ordering::Relaxed);
                let began = Instant::now();
                match client {
                    Ok((stream, rest)) => drip(stream, &rest).await,
                    Err(_) => drop(tally.put_out.fetch_add(1, Ordering::Relaxed)),
                }
                tally.open.fetch_sub(1, Ordering::Relaxed);
                (dawdling, began.elapsed())
            });
        }
        while let Some(closed) = all.join_next().await {
            let (dawdling, took) = closed.doing("await a slow client")?;
            assert!(took < LIMIT, "{dawdling:?} was closed only after {took:?}");
        }
        Ok(())
    })
}

/// Sends a byte at each step until the server ends the connection, or long after it should have.
async fn drip(mut stream: Box<dyn Stream>, bytes: &[u8]) {
    let mut bytes = bytes.iter();
    let mut answer = [0; 1024];
    let until = Instant::now() + 2 * LIMIT;
    while Instant::now() < until {
        match timeout(STEP, stream.read(&mut answer)).await {
            Ok(Ok(0) | Err(_)) => return,
            // It may say why before it hangs up.
            Ok(Ok(_)) => {}
            Err(_) => {
                if let Some(&byte) = bytes.next()
                    && (stream.write_all(&[byte]).await.is_err() || stream.flush().await.is_err())
                {
                    return;
                }
            }
        }
    }
}

/// The way to the API with one certificate.
#[derive(Clone)]
struct Door {
    address: SocketAddr,
    name: ServerName<'static>,
    connector: TlsConnector,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Door {
    fn new(office: &Office, identity: &Identity) -> Result<Self, Failure> {
        let https = office.https(Some(identity))?;
        let connector = TlsConnector::from(https.configuration());
        Ok(Self { address: https.address(), name: https.name(), connector })
    }

    /// Connects so far that only the dawdling is left; gives also what to send slowly.
    async fn begin(&self, dawdling: Dawdling) -> io::Result<(Box<dyn Stream>, Vec<u8>)> {
        let begun: (Box<dyn Stream>, _) = match dawdling {
            Dawdling::Silent => (Box::new(self.connect().await?), Vec::new()),
            Dawdling::Hello => (Box::new(self.connect().await?), self.hello()?),
            Dawdling::Tls => (Box::new(self.enter().await?), Vec::new()),
            Dawdling::Head => (Box::new(self.enter().await?), HEAD.into()),
            Dawdling::Body => {
                let mut stream = self.enter().await?;
                stream.write_all(HEAD.as_bytes()).await?;
                stream.flush().await?;
                (Box::new(stream), vec![b' '; BODY_LEN])
            }
            Dawdling::Idle => {
                let mut stream = self.enter().await?;
                match ask(&mut stream, AUTHORITIES).await? {
                    200 => (Box::new(stream), Vec::new()),
                    status => return Err(io::Error::other(format!("status {status}"))),
                }
            }
        };
        Ok(begun)
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn enter(&self) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), self.connect().await?).await
    }

    fn hello(&self) -> io::Result<Vec<u8>> {
        let client = ClientConnection::new(self.connector.config().clone(), self.name.clone());
        let mut hello = Vec::new();
        client.map_err(io::Error::other)?.write_tls(&mut hello)?;
        Ok(hello)
    }
}

/// What good clients were answered, and how long they waited for it.
#[derive(Default)]
struct Good(Vec<(Instant, Duration)>);

/// Good clients ask for certificates as long as something else goes on; one keeps its connection,
/// one makes a new one for each request. None of their requests may fail.
fn good_clients_while(office: &Office, something: impl FnOnce() -> Story) -> Result<Good, Failure> {
    let door = Door::new(office, &office.enrol("user/alice")?)?;
    let request = certificate_request(office)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients = [true, false].map(|keep| {
            scope.spawn({
                let (door, request, over) = (&door, &request, &over);
                move || block_on(good_client(door, request, keep, over))
            })
        });
        let done = something();
        over.store(true, Ordering::Relaxed);
        let mut all = Good::default();
        for client in clients {
            all.0.extend(client.join().map_err(|_| Failure::new("a good client panicked"))??);
        }
        done.map(|()| all)
    })
}

async fn good_client(
    door: &Door,
    request: &str,
    keep: bool,
    over: &AtomicBool,
) -> Result<Vec<(Instant, Duration)>, Failure> {
    let mut answers = Vec::new();
    let mut kept = None;
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => door.enter().await.doing("connect as a good client")?,
        };
        let asked = timeout(2 * LIMIT, ask(&mut stream, request)).await;
        let status = asked.doing("wait for an answer")?.doing("ask as a good client")?;
        assert_eq!(status, 201);
        answers.push((began, began.elapsed()));
        kept = keep.then_some(stream);
        sleep(Duration::from_millis(10)).await;
    }
    Ok(answers)
}

impl Good {
    /// The middle one of all windows: one in which the machine was busy with something else says
    /// nothing.
    fn median_p99(&self) -> Duration {
        let Some(first) = self.0.iter().map(|(began, _)| *began).min() else {
            return Duration::MAX;
        };
        let window = |began: Instant| (began - first).as_millis() / WINDOW.as_millis();
        let last = self.0.iter().map(|(began, _)| window(*began)).max().unwrap_or_default();
        let mut worst: Vec<_> = (0..=last)
            .map(|wanted| {
                let of_window = self.0.iter().filter(|(began, _)| window(*began) == wanted);
                percentile(of_window.map(|(_, took)| *took).collect(), 99)
            })
            .collect();
        worst.sort_unstable();
        worst[worst.len() / 2]
    }
}

impl fmt::Display for Good {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<_> = self.0.iter().map(|(_, took)| *took).collect();
        let [p50, p99, most] = [50, 99, 100].map(|percent| percentile(all.clone(), percent));
        let windows = self.median_p99();
        write!(
            f,
            "{} answers, p50 {p50:?}, p99 {p99:?} (median of all {WINDOW:?}: {windows:?}), \
             slowest {most:?}",
            all.len()
        )
    }
}

/// Nothing took that long: a window without an answer is the worst of all.
fn percentile(mut latencies: Vec<Duration>, percent: usize) -> Duration {
    latencies.sort_unstable();
    let index = (latencies.len() * percent).div_ceil(100).saturating_sub(1);
    latencies.get(index).copied().unwrap_or(Duration::MAX)
}

fn certificate_request(office: &Office) -> Result<String, Failure> {
    let body = office.login_request("alice")?.to_string();
    Ok(format!(
        "POST /v1/issue/ssh-user HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// Sends a request on a connection that stays open; gives the status of its answer.
async fn ask(stream: &mut TlsStream<TcpStream>, request: &str) -> io::Result<u16> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let field = |name| head.lines().find_map(|line: &str| line.strip_prefix(name));
        let status = field("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let length = field("content-length: ").and_then(|length| length.parse().ok());
        let (Some(status), Some(length)) = (status, length) else {
            return Err(io::Error::other(head.to_owned()));
        };
        if body.len() >= length {
            return Ok(status);
        }
    }
}

/// How many connections the API has, as the appliance itself says.
fn connections(office: &Office) -> Result<usize, Failure> {
    let metrics = http_get(office.public(), "/metrics").doing("read /metrics")?;
    let name = "chancery_connections{listener=\"api\"} ";
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.parse().ok());
    value.ok_or_else(|| Failure::new(format!("no {name}in /metrics")).said(metrics))
}

fn open_files(process: u32) -> Result<usize, Failure> {
    let directory = format!("/proc/{process}/fd");
    Ok(fs::read_dir(&directory).doing(format_args!("read {directory}"))?.count())
}

fn assert_never_out_of_files(office: &mut Office) -> Story {
    let log = office.appliance()?.log()?;
    for complaint in ["cannot accept", "Too many open files", "os error 24"] {
        assert!(!log.contains(complaint), "{complaint:?}: {log}");
    }
    Ok(())
}

fn block_on<T>(story: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.doing("start tokio")?.block_on(story)
}

const AUTHORITIES: &str = "GET /v1/authorities HTTP/1.1\r\nhost: localhost\r\n\r\n";

const HEAD: &str = "POST /v1/issue/ssh-user HTTP/1.1\r\nhost: localhost\r\n\
                    content-type: application/json\r\ncontent-length: 1000\r\n\r\n";

const BODY_LEN: usize = 1000;
