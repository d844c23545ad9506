//! Clients that dawdle are closed within ten seconds, and everybody else is served meanwhile.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use harness::{
    Doing, Failure, Story,
    https::{Https, Request},
    office::Office,
};

/// Within this time a slow client is closed; a second is for a busy machine.
const LIMIT: Duration = Duration::from_secs(10 + 1);

/// How long each dawdles between two bytes: far less than any timeout for a silent one.
const STEP: Duration = Duration::from_millis(200);

#[test]
fn slow_clients_are_closed_and_a_good_one_is_served_meanwhile() -> Story {
    let office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    let https = office.https(Some(&alice))?;
    let https = &https;
    thread::scope(|scope| {
        let slow = [
            ("says nothing", scope.spawn(move || says_nothing(https))),
            ("shakes hands slowly", scope.spawn(move || shakes_hands_slowly(https))),
            ("sends nothing after TLS", scope.spawn(move || sends_slowly(https, 0))),
            ("sends its header slowly", scope.spawn(move || sends_slowly(https, 20))),
            ("sends its body slowly", scope.spawn(move || sends_slowly(https, 200))),
        ];
        while slow.iter().any(|(_, client)| !client.is_finished()) {
            let began = Instant::now();
            https.get("/v1/authorities")?.expect_status(200)?;
            let took = began.elapsed();
            assert!(took < Duration::from_secs(2), "a good client waited {took:?}");
        }
        for (what, client) in slow {
            let took = client.join().map_err(|_| Failure::new(format!("{what}: panicked")))??;
            assert!(took < LIMIT, "a client that {what} was closed only after {took:?}");
        }
        Ok(())
    })
}

#[test]
fn many_slow_clients_keep_no_good_one_out() -> Story {
    let office = Office::open()?;
    let alice = office.enrol("user/alice")?;
    let https = office.https(Some(&alice))?;
    let silent: Vec<_> =
        (0..500).map(|_| https.connect().map(|c| c.sock)).collect::<Result<_, _>>()?;
    let began = Instant::now();
    https.get("/v1/authorities")?.expect_status(200)?;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "a good client waited {took:?}");
    for mut client in silent {
        wait_for_end(&mut client, &[], LIMIT * 2)?;
    }
    Ok(())
}

fn says_nothing(https: &Https) -> Result<Duration, Failure> {
    wait_for_end(&mut https.connect()?.sock, &[], LIMIT * 2)
}

fn shakes_hands_slowly(https: &Https) -> Result<Duration, Failure> {
    let mut connection = https.connect()?;
    let mut hello = Vec::new();
    connection.conn.write_tls(&mut hello).doing("begin TLS")?;
    wait_for_end(&mut connection.sock, &hello, LIMIT * 2)
}

/// Sends the first `quick` bytes of a request at once and the rest slowly.
fn sends_slowly(https: &Https, quick: usize) -> Result<Duration, Failure> {
    let request = Request {
        method: "POST",
        path: "/v1/issue/ssh-user",
        headers: &[("content-type", "application/json")],
        body: &[b' '; 1000],
    };
    let bytes = request.bytes();
    let mut connection = https.connect()?;
    let _ = connection.conn.complete_io(&mut connection.sock).doing("shake hands")?;
    connection.write_all(&bytes[..quick]).doing("send the quick part")?;
    connection.sock.set_read_timeout(Some(STEP)).doing("set a time limit")?;
    let rest = if quick == 0 { &[] } else { &bytes[quick..] };
    dawdle(&mut connection, rest, LIMIT * 2)
}

fn wait_for_end(
    stream: &mut TcpStream,
    bytes: &[u8],
    patience: Duration,
) -> Result<Duration, Failure> {
    stream.set_read_timeout(Some(STEP)).doing("set a time limit")?;
    dawdle(stream, bytes, patience)
}

/// Sends a byte at each step until the server ends the connection; tells how long that took.
fn dawdle(
    stream: &mut (impl Read + Write),
    bytes: &[u8],
    patience: Duration,
) -> Result<Duration, Failure> {
    let began = Instant::now();
    let mut bytes = bytes.iter();
    let mut answer = [0; 1024];
    while began.elapsed() < patience {
        if let Some(&byte) = bytes.next()
            && stream.write_all(&[byte]).and_then(|()| stream.flush()).is_err()
        {
            return Ok(began.elapsed());
        }
        match stream.read(&mut answer) {
            Ok(0) => return Ok(began.elapsed()),
            // It may say why before it hangs up.
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return Ok(began.elapsed()),
        }
    }
    Err(Failure::new(format!("a slow client was still connected after {patience:?}")))
}
