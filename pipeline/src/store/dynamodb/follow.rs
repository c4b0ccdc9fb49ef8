//! Following a unit from a process that does not own it.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{DynamoStore, Head};
use crate::store::{Change, Follow, Row, Standing, StoreError, Unit};

impl Follow for DynamoStore {
    type Head = Head;

    fn head<'a>(&'a self, unit: Unit) -> BoxFuture<'a, Result<Standing<Head>, StoreError>> {
        async move { Ok(Self::head(self, unit).await?.map(|head| (head.header, head))) }.boxed()
    }

    fn changes<'a>(
        &'a self,
        unit: Unit,
        from: &'a Head,
        to: &'a Head,
    ) -> BoxFuture<'a, Result<Option<Vec<Change>>, StoreError>> {
        self.changes_since(unit, to, from.seq).boxed()
    }

    fn scan_at<'a>(
        &'a self,
        unit: Unit,
        head: &'a Head,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        Self::scan_at(self, unit, head, prefix, after, limit).boxed()
    }
}
