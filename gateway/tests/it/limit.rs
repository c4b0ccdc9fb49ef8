//! Limits: what a burst lets through, what the headers say, and who has no limit.

use std::net::IpAddr;
use std::num::NonZeroU32;

use axum::http::HeaderMap;
use gateway::auth::{Caller, Role};
use gateway::limit::{Lane, Limits, Rate, Settings, network, policy};

fn rate(per_second: u32, burst: u32) -> Rate {
    Rate { per_second: NonZeroU32::new(per_second).unwrap(), burst: NonZeroU32::new(burst).unwrap() }
}

fn caller(subject: &str, role: Role) -> Caller {
    Caller { subject: subject.into(), role, quiz: None }
}

#[test]
fn the_policy_names_quota_and_window() {
    assert_eq!(policy("player", rate(50, 100)), r#""player";q=100;w=2"#);
    assert_eq!(policy("host", rate(3, 10)), r#""host";q=10;w=4"#);
    assert_eq!(rate(50, 100).refill_s(1), 1);
    assert_eq!(rate(50, 100).refill_s(0), 0);
}

#[test]
fn a_burst_passes_and_one_more_does_not() {
    // One request in more than a day: nothing is refilled while the test runs.
    let settings = Settings { player: rate(1, 3), ..Settings::default() };
    let limits = Limits::new(&settings);
    let (ana, bob) = (caller("ana", Role::Player), caller("bob", Role::Viewer));
    let left: Vec<u32> = (0..3).map(|_| limits.subject(&ana).unwrap().remaining).collect();
    assert_eq!(left, [2, 1, 0]);
    let limited = limits.subject(&ana).unwrap_err();
    assert!(limited.retry_after.as_millis() <= 1_000);
    let mut headers = HeaderMap::new();
    limited.allowance.write(&mut headers);
    assert_eq!(headers["ratelimit-policy"], r#""player";q=3;w=3"#);
    assert_eq!(headers["ratelimit"], r#""player";r=0;t=1"#);
    assert_eq!(limits.subject(&bob).unwrap().remaining, 2, "others are not affected");
    assert_eq!(
        limits.subject(&caller("ana", Role::Host)).unwrap().remaining,
        999,
        "nor the same name as a host"
    );
}

#[test]
fn addresses_share_a_network_and_loopback_has_no_limit() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(network(ip("127.0.0.9")), None);
    assert_eq!(network(ip("::1")), None);
    assert_eq!(network(ip("::ffff:127.0.0.1")), None);
    assert_eq!(network(ip("2001:db8::1")), network(ip("2001:db8::ffff:1")));
    assert_ne!(network(ip("2001:db8::1")), network(ip("2001:db8:0:1::1")));
    assert_eq!(network(ip("::ffff:192.0.2.1")), network(ip("192.0.2.1")));
    let limits = Limits::new(&Settings { address: rate(1, 1), ..Settings::default() });
    assert!(limits.address(ip("192.0.2.1")).unwrap().is_some());
    assert!(limits.address(ip("192.0.2.1")).is_err());
    assert_eq!(limits.address(ip("127.0.0.1")), Ok(None));
}

#[test]
fn requests_in_flight_are_bounded_and_given_back() {
    let limits = Limits::new(&Settings { in_flight_max: 2, ..Settings::default() });
    let first = limits.enter(Lane::Body);
    let second = limits.enter(Lane::Body);
    assert!(first.is_some() && second.is_some());
    assert!(limits.enter(Lane::Body).is_none());
    assert!(limits.enter(Lane::Body).is_none(), "a refusal leaves no trace");
    for other in [Lane::Host, Lane::Read] {
        assert!(limits.enter(other).is_some(), "bodies take no place of {other:?}");
    }
    drop(first);
    assert!(limits.enter(Lane::Body).is_some());
}
