//! Real UDP and TCP over real devices. Skips, and says so, where no link can be made.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use quip_link::{Chance, Direction, Link, Params, StartError};
use socket2::SockRef;

const MS: Duration = Duration::from_millis(1);
const PACKETS: u16 = 400;

fn link(params: &Params) -> Option<Link> {
    match Link::start(params, 1) {
        Ok(link) => Some(link),
        Err(error) if StartError::is_unsupported(&error) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Sends numbered datagrams from near to far; which arrived, and the shortest time that one took.
fn send(link: &Link) -> (Vec<u16>, Duration) {
    let near = link.near.run(|| UdpSocket::bind((link.near.address(), 0))).unwrap().unwrap();
    let far = link.far.run(|| UdpSocket::bind((link.far.address(), 0))).unwrap().unwrap();
    far.set_read_timeout(Some(200 * MS)).unwrap();
    near.connect(far.local_addr().unwrap()).unwrap();
    let start = Instant::now();
    let sender = thread::spawn(move || {
        for number in 0..PACKETS {
            let mut message = start.elapsed().as_nanos().to_be_bytes().to_vec();
            message.extend(number.to_be_bytes());
            near.send(&message).unwrap();
            thread::sleep(MS / 4);
        }
    });
    let (mut numbers, mut shortest, mut message) = (Vec::new(), Duration::MAX, [0; 18]);
    loop {
        match far.recv(&mut message) {
            Ok(18) => {
                let sent = u128::from_be_bytes(message[..16].try_into().unwrap());
                shortest = shortest.min(start.elapsed() - Duration::from_nanos(sent as u64));
                numbers.push(u16::from_be_bytes([message[16], message[17]]));
            }
            Ok(other) => panic!("{other} bytes"),
            Err(error) if sender.is_finished() => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return (numbers, shortest);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

#[test]
fn datagrams_are_lost_late_and_the_same_for_each_seed() {
    let params = Params { delay: 20 * MS, loss: Chance::new(0.1).unwrap(), ..Params::default() };
    let Some(first) = link(&params) else { return };
    let (numbers, shortest) = send(&first);
    let lost = usize::from(PACKETS) - numbers.len();
    assert!((10..=80).contains(&lost), "{lost} lost");
    assert!((20 * MS..40 * MS).contains(&shortest), "{shortest:?}");
    let counts = first.counts(Direction::Up).unwrap();
    assert_eq!(
        (counts.packets, counts.lost, counts.delivered),
        (u64::from(PACKETS), lost as u64, numbers.len() as u64)
    );
    assert_eq!((counts.kernel_dropped, counts.too_many_under_way), (0, 0));
    assert_eq!(first.counts(Direction::Down).unwrap().packets, 0);

    let second = link(&params).unwrap();
    assert_eq!(send(&second).0, numbers, "another link of the same seed");

    first.set(Direction::Up, &Params::default()).unwrap();
    let (numbers, shortest) = send(&first);
    assert_eq!(numbers, (0..PACKETS).collect::<Vec<_>>(), "after the loss was taken away");
    assert!(shortest < 20 * MS, "{shortest:?}");
}

#[test]
fn a_tcp_stream_is_whole_behind_a_bad_network() {
    let params = Params {
        delay: 5 * MS,
        jitter: MS,
        loss: Chance::new(0.01).unwrap(),
        duplicate: Chance::new(0.01).unwrap(),
        reorder: Some("1%,2ms".parse().unwrap()),
        ..Params::default()
    };
    let Some(link) = link(&params) else { return };
    let listener = link.far.run(|| TcpListener::bind((link.far.address(), 0))).unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    let sent: Vec<u8> = (0..500_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    let expected = sent.clone();
    let server = thread::spawn(move || listener.accept().unwrap().0.write_all(&sent).unwrap());
    let began = Instant::now();
    let mut client = link.near.run(|| TcpStream::connect(address)).unwrap().unwrap();
    assert!(began.elapsed() >= 8 * MS, "connected after {:?}", began.elapsed());
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    server.join().unwrap();
    assert!(received == expected, "{} bytes of {}", received.len(), expected.len());
    let counts = link.counts(Direction::Down).unwrap();
    assert!(counts.lost > 0 && counts.duplicated > 0 && counts.held_back > 0, "{counts:?}");
}

#[test]
fn a_side_may_have_more_addresses_and_processes_of_its_own() {
    let Some(link) = link(&Params::default()) else { return };
    let address = "198.18.0.9".parse().unwrap();
    link.near.add_address(address).unwrap();
    let far = link.far.run(|| UdpSocket::bind((link.far.address(), 0))).unwrap().unwrap();
    far.set_read_timeout(Some(1000 * MS)).unwrap();
    let near = link.near.run(|| UdpSocket::bind((address, 0))).unwrap().unwrap();
    near.send_to(b"from elsewhere", far.local_addr().unwrap()).unwrap();
    assert_eq!(far.recv_from(&mut [0; 100]).unwrap().1, near.local_addr().unwrap());

    link.far.set("ipv4/tcp_congestion_control", "reno").unwrap();
    let mut cat = std::process::Command::new("cat");
    cat.arg("/proc/sys/net/ipv4/tcp_congestion_control").stdout(std::process::Stdio::piped());
    let output = link.far.spawn(&mut cat).unwrap().wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "reno\n");
    assert!(link.far.set("ipv4/tcp_congestion_control", "none such").is_err());
}

#[test]
fn both_ends_of_a_connection_have_the_congestion_control_of_the_link() {
    let Some(link) = link(&Params::default()) else { return };
    // Two, so that neither can be what the kernel has by default.
    for name in ["reno", "cubic"] {
        for side in [&link.near, &link.far] {
            side.set_congestion_control(name).unwrap();
        }
        let listener = link.far.run(|| TcpListener::bind((link.far.address(), 0))).unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let client = link.near.run(|| TcpStream::connect(address)).unwrap().unwrap();
        let (server, _) = listener.accept().unwrap();
        for socket in [&client, &server] {
            let found = SockRef::from(socket).tcp_congestion().unwrap();
            assert_eq!(String::from_utf8(found).unwrap().trim_end_matches('\0'), name);
        }
    }
    assert!(link.near.set_congestion_control("none_such").is_err());
}

#[test]
fn nothing_is_left_of_a_link() {
    let devices = || fs::read_to_string("/proc/net/dev").unwrap().lines().count();
    let before = devices();
    let Some(one) = link(&Params::default()) else { return };
    let inside = fs::File::open(one.near.path()).unwrap();
    assert_eq!(devices(), before, "nothing appears on the machine itself");
    drop(one);
    // Our descriptor keeps the namespace, without its device.
    nix::sched::setns(&inside, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let left = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    assert!(left.contains(" lo:") && !left.contains("link:"), "{left}");
}
