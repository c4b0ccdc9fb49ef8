//! What a table belongs to: the streams whose state it holds, and the key that its tokens are signed with.
//!
//! One item in the table, `pk` = `cluster`. Whoever comes first writes it, everybody else compares: leases, positions and
//! pages mean nothing beside other streams or another number of partitions, and would be believed all the same.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use aws_sdk_dynamodb::types::AttributeValue;
use ingest::aws::{explain, is_refused};
use ingest::log::kinesis::{Kinesis, Origin};
use ingest::log::{Log, Stream};
use ingest::table::{PK, SK, Table};
use operators::id::UnixMillis;

/// Both keys of the item.
const KEYS: (&str, &str) = ("cluster", "identity");
const ENTITY: &str = "entityType";
const PARTITIONS: &str = "partitions";
const STREAMS: &str = "streams";
const ISSUER: &str = "issuer";

type Item = HashMap<String, AttributeValue>;

/// The streams of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Partitions of every stream.
    pub partitions: u16,
    /// Which streams.
    pub streams: BTreeMap<Stream, Origin>,
}

/// A process that does not belong to the table's cluster, in words that say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The table holds the state of other streams.
    #[error("table {table} belongs to {reason}")]
    Streams {
        /// Which.
        table: String,
        /// How they differ, and what to do.
        reason: String,
    },
    /// Tokens are signed with another key.
    #[error(
        "{file} is another key than the one that this cluster's tokens are signed with: copy issuer.key from the data \
         directory of a gateway that runs, and stop using this one"
    )]
    Issuer {
        /// The key's file.
        file: String,
    },
    /// The item makes no sense.
    #[error("the item `cluster` of table {table} is damaged: {reason}")]
    Corrupt {
        /// Which.
        table: String,
        /// What is wrong.
        reason: String,
    },
    /// The table does not answer.
    #[error("DynamoDB: {0}")]
    Unavailable(String),
}

impl Identity {
    /// Returns that of the streams of a log.
    pub fn of(log: &Kinesis) -> Self {
        Self { partitions: log.partitions(), streams: log.origins().clone() }
    }

    /// Makes sure that a table belongs to these streams: writes so into one that belongs to none yet.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub async fn bind(&self, table: &Table) -> Result<(), IdentityError> {
        let item = match find(table).await? {
            Some(item) => item,
            None => {
                self.write(table).await?;
                // It may be somebody else's who was quicker.
                find(table).await?.unwrap_or_default()
            }
        };
        let corrupt =
            |reason: &str| IdentityError::Corrupt { table: table.name.clone(), reason: reason.into() };
        let found = Self::read(&item).ok_or_else(|| corrupt("it does not name streams and partitions"))?;
        match self.difference(&found) {
            None => Ok(()),
            Some(reason) => Err(IdentityError::Streams { table: table.name.clone(), reason }),
        }
    }

    /// Writes the item unless there is one.
    async fn write(&self, table: &Table) -> Result<(), IdentityError> {
        let put = table.client.put_item().table_name(&table.name).set_item(Some(self.item()));
        let put = put.condition_expression("attribute_not_exists(#pk)").expression_attribute_names("#pk", PK);
        match put.send().await {
            Ok(_) => Ok(()),
            Err(error) if is_refused(&error) => Ok(()),
            Err(error) => Err(IdentityError::Unavailable(explain(&error))),
        }
    }

    /// Returns what is to be said when a table belongs to `other` instead.
    fn difference(&self, other: &Self) -> Option<String> {
        for (stream, mine) in &self.streams {
            let Some(theirs) = other.streams.get(stream) else {
                return Some(format!("a cluster without a stream {stream}: name another with --table"));
            };
            let (name, its) = (&mine.name, &theirs.name);
            if name != its {
                let prefix = its.strip_suffix(stream.name()).unwrap_or(its);
                return Some(format!(
                    "stream {its}, and this process was told to use {name}: say --prefix {prefix}, or name another table \
                     with --table"
                ));
            }
            if mine.arn != theirs.arn {
                return Some(format!(
                    "stream {name} of {}, and this process found {}: check region and account, or name another table \
                     with --table",
                    theirs.arn, mine.arn
                ));
            }
            if mine.made != theirs.made {
                return Some(format!(
                    "a stream {name} that was made on {}, and the one that is there now was made on {}: what the table \
                     holds is about records that are gone, so make a new one with `podium table create --table NAME` and \
                     name it with --table",
                    time(theirs.made),
                    time(mine.made)
                ));
            }
        }
        (self.partitions != other.partitions).then(|| {
            format!(
                "streams of {} partitions, and their tags say {} now: the number never changes, so set the tags back, or \
                 name another table with --table",
                other.partitions, self.partitions
            )
        })
    }

    fn item(&self) -> Item {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let number = |number: u64| AttributeValue::N(number.to_string());
        let stream = |(stream, origin): (&Stream, &Origin)| {
            let origin = [
                ("name".to_owned(), text(&origin.name)),
                ("arn".to_owned(), text(&origin.arn)),
                ("made".to_owned(), number(origin.made.0)),
            ];
            (stream.name().to_owned(), AttributeValue::M(origin.into()))
        };
        let mut item = keys();
        item.insert(ENTITY.into(), text("CLUSTER"));
        item.insert(PARTITIONS.into(), number(self.partitions.into()));
        item.insert(STREAMS.into(), AttributeValue::M(self.streams.iter().map(stream).collect()));
        item
    }

    fn read(item: &Item) -> Option<Self> {
        let partitions = item.get(PARTITIONS)?.as_n().ok()?.parse().ok()?;
        let all = item.get(STREAMS)?.as_m().ok()?;
        let mut streams = BTreeMap::new();
        for stream in Stream::ALL {
            let Some(origin) = all.get(stream.name()) else { continue };
            let origin = origin.as_m().ok()?;
            let text = |name: &str| origin.get(name)?.as_s().ok().cloned();
            let made = UnixMillis(origin.get("made")?.as_n().ok()?.parse().ok()?);
            streams.insert(stream, Origin { name: text("name")?, arn: text("arn")?, made });
        }
        Some(Self { partitions, streams })
    }
}

/// Makes sure that all gateways sign with one key: notes the fingerprint of the first, and compares that of others. The
/// table must be bound.
///
/// # Errors
/// [`IdentityError`], naming the key's file.
pub async fn claim(table: &Table, fingerprint: &str, file: &Path) -> Result<(), IdentityError> {
    let other = || IdentityError::Issuer { file: file.display().to_string() };
    let item = find(table).await?.unwrap_or_default();
    if let Some(known) = item.get(ISSUER) {
        let is_mine = known.as_s().is_ok_and(|known| known == fingerprint);
        return if is_mine { Ok(()) } else { Err(other()) };
    }
    let update = table.client.update_item().table_name(&table.name).set_key(Some(keys()));
    let update = update
        .update_expression("SET #issuer = :mine")
        .condition_expression("attribute_exists(#pk) AND (attribute_not_exists(#issuer) OR #issuer = :mine)")
        .expression_attribute_names("#issuer", ISSUER)
        .expression_attribute_names("#pk", PK)
        .expression_attribute_values(":mine", AttributeValue::S(fingerprint.to_owned()));
    match update.send().await {
        Ok(_) => Ok(()),
        Err(error) if is_refused(&error) => Err(other()),
        Err(error) => Err(IdentityError::Unavailable(explain(&error))),
    }
}

async fn find(table: &Table) -> Result<Option<Item>, IdentityError> {
    let get = table.client.get_item().table_name(&table.name).set_key(Some(keys())).consistent_read(true);
    let found = get.send().await.map_err(|error| IdentityError::Unavailable(explain(&error)))?;
    Ok(found.item)
}

fn keys() -> Item {
    let (pk, sk) = KEYS;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    [(PK.to_owned(), text(pk)), (SK.to_owned(), text(sk))].into()
}

fn time(at: UnixMillis) -> String {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let origin = |stream: Stream| Origin {
            name: format!("podium-{stream}"),
            arn: format!("arn:aws:kinesis:us-east-1:1:stream/podium-{stream}"),
            made: UnixMillis(1_790_000_000_000),
        };
        Identity { partitions: 32, streams: Stream::ALL.map(|stream| (stream, origin(stream))).into() }
    }

    #[test]
    fn an_identity_is_read_as_it_was_written() {
        let mut item = identity().item();
        assert_eq!(Identity::read(&item), Some(identity()));
        item.insert(ISSUER.into(), AttributeValue::S("a".into()));
        assert_eq!(Identity::read(&item), Some(identity()), "what gateways add is no matter of streams");
        item.remove(PARTITIONS);
        assert_eq!(Identity::read(&item), None);
    }

    #[test]
    fn every_difference_is_told_on_one_line_with_what_to_do() {
        let mine = identity();
        assert_eq!(mine.difference(&identity()), None);
        let with = |change: &dyn Fn(&mut Identity)| {
            let mut other = identity();
            change(&mut other);
            let said = mine.difference(&other).unwrap();
            assert!(!said.contains('\n') && said.contains("--table"), "{said}");
            said
        };
        fn standings(other: &mut Identity) -> &mut Origin {
            other.streams.get_mut(&Stream::Standings).unwrap()
        }
        let said = with(&|other| standings(other).name = "a-standings".into());
        assert!(said.contains("--prefix a-,") && said.contains("podium-standings"), "{said}");
        let said = with(&|other| standings(other).arn = "arn:2".into());
        assert!(said.contains("arn:2") && said.contains("region and account"), "{said}");
        let said = with(&|other| standings(other).made = UnixMillis(1_700_000_000_000));
        assert!(said.contains("on 2023-11-14T22:13:20Z") && said.contains("table create"), "{said}");
        let said = with(&|other| other.partitions = 8);
        assert!(said.contains("8 partitions") && said.contains("say 32"), "{said}");
        with(&|other| drop(other.streams.remove(&Stream::Results)));
    }
}
