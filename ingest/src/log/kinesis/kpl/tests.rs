//! Aggregates against an encoder written from the format's description, and against bytes of any kind.

use proptest::prelude::*;

use super::*;

/// What an aggregate is made of here: tables, and records as (partition key, hash key, bytes).
type Tables = (Vec<String>, Vec<u128>, Vec<(u64, Option<u64>, Vec<u8>)>);

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn field(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn encoded((keys, hashes, records): &Tables) -> Vec<u8> {
    let mut message = Vec::new();
    for key in keys {
        field(&mut message, 1, key.as_bytes());
    }
    for hash in hashes {
        field(&mut message, 2, hash.to_string().as_bytes());
    }
    for (key, hash, data) in records {
        let mut record = vec![1 << 3];
        varint(&mut record, *key);
        if let Some(hash) = hash {
            record.push(2 << 3);
            varint(&mut record, *hash);
        }
        field(&mut record, 3, data);
        // A tag of the producer's own, which nobody needs.
        field(&mut record, 4, &[1 << 3 | 2, 1, b'k']);
        field(&mut message, 3, &record);
    }
    framed(&message)
}

fn framed(message: &[u8]) -> Vec<u8> {
    let digest: [u8; 16] = Md5::digest(message).into();
    [&MAGIC[..], message, &digest].concat()
}

fn tables() -> impl Strategy<Value = Tables> {
    let data = prop::collection::vec(any::<u8>(), 0..40);
    (prop::collection::vec("[a-z0-9/é]{0,12}", 1..5), prop::collection::vec(any::<u128>(), 1..5))
        .prop_flat_map(move |(keys, hashes)| {
            let record = (0..keys.len() as u64, prop::option::of(0..hashes.len() as u64), data.clone());
            (Just(keys), Just(hashes), prop::collection::vec(record, 0..20))
        })
}

proptest! {
    #[test]
    fn what_another_producer_packed_is_taken_apart(tables in tables()) {
        let unpacked = unpack(&encoded(&tables).into()).expect("it is an aggregate");
        let (keys, hashes, records) = tables;
        let found = unpacked.parts.into_iter();
        let found: Vec<_> = found
            .map(|part| (part.partition_key as u64, part.hash_key.map(|n| n as u64), part.data.to_vec()))
            .collect();
        prop_assert_eq!((unpacked.partition_keys, unpacked.hash_keys, found), (keys, hashes, records));
    }

    #[test]
    fn what_is_packed_here_is_what_the_format_says(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
    ) {
        let bytes: Vec<Bytes> = records.iter().cloned().map(Bytes::from).collect();
        let packed = pack("17/32", "5", bytes.iter());
        let unpacked = unpack(&packed).expect("it is an aggregate");
        let found: Vec<_> = unpacked.parts.iter().map(|part| part.data.to_vec()).collect();
        prop_assert_eq!(&found, &records);
        prop_assert!(unpacked.parts.iter().all(|part| part.partition_key == 0 && part.hash_key == Some(0)));
        let added = packed.len() - records.iter().map(Vec::len).sum::<usize>();
        prop_assert!(added <= 40 + records.len() * PART_BYTES_MAX);
    }

    #[test]
    fn any_bytes_are_a_plain_record_or_an_aggregate(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = unpack(&bytes.clone().into());
        let unpacked = unpack(&framed(&bytes).into());
        if let Some(Unpacked { partition_keys, hash_keys, parts }) = unpacked {
            for part in parts {
                prop_assert!(part.partition_key < partition_keys.len());
                prop_assert!(part.hash_key.is_none_or(|hash_key| hash_key < hash_keys.len()));
            }
        }
    }

    #[test]
    fn a_changed_byte_makes_it_plain(tables in tables(), place in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let mut bytes = encoded(&tables);
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        prop_assert_eq!(unpack(&bytes.into()), None);
    }

    #[test]
    fn a_message_that_is_broken_under_a_right_digest_is_plain_or_bounded(
        tables in tables(),
        place in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let bytes = encoded(&tables);
        let mut message = bytes[4..bytes.len() - 16].to_vec();
        let place = place.index(message.len());
        message[place] = to;
        message.truncate(message.len() - usize::from(to) % 3);
        let _ = unpack(&framed(&message).into());
    }
}

#[test]
fn what_lacks_something_is_plain() {
    let keys = || vec!["k".to_owned()];
    for bad in [
        (keys(), vec![], vec![(1, None, vec![])]),
        (keys(), vec![], vec![(u64::MAX, None, vec![])]),
        (keys(), vec![], vec![(0, Some(0), vec![])]),
        (vec![], vec![], vec![(0, None, vec![])]),
    ] {
        assert_eq!(unpack(&encoded(&bad).into()), None, "{bad:?}");
    }
    // A record without its bytes, and one without its key; then a hash key that is no number.
    for message in [&[10, 1, b'k', 26, 2, 8, 0][..], &[10, 1, b'k', 26, 2, 26, 0], &[18, 1, b'x']] {
        assert_eq!(unpack(&framed(message).into()), None, "{message:?}");
    }
    for short in [&[][..], &MAGIC, &[0; 16], &[0xf3; 19]] {
        assert_eq!(unpack(&Bytes::copy_from_slice(short)), None);
    }
    let empty = unpack(&framed(&[]).into()).expect("an aggregate of nothing");
    assert!(empty.parts.is_empty());
}
