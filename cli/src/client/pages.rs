//! Lists, a page at a time: each item as the API sent it.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Client, Request};
use crate::error::Error;

/// A page of a list.
#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Box<RawValue>>,
    #[serde(default)]
    next_cursor: Option<String>,
}

/// The items of a list.
#[derive(Debug)]
pub(crate) struct Items<'a> {
    client: &'a Client,
    request: Request,
    page: std::vec::IntoIter<Box<RawValue>>,
    is_last: bool,
}

impl Client {
    /// Reads a list, page after page as needed.
    pub(crate) fn items(&self, request: Request) -> Items<'_> {
        Items { client: self, request, page: Vec::new().into_iter(), is_last: false }
    }
}

impl Items<'_> {
    fn next_item(&mut self) -> Result<Option<Box<RawValue>>, Error> {
        loop {
            // A page may be empty although it is not the last.
            if let Some(item) = self.page.next() {
                return Ok(Some(item));
            }
            if self.is_last {
                return Ok(None);
            }
            let page: Page = self.client.read(&self.request)?;
            self.page = page.items.into_iter();
            self.is_last = page.next_cursor.is_none();
            if let Some(cursor) = page.next_cursor {
                self.request = self.request.clone().query("cursor", &cursor);
            }
        }
    }
}

impl Iterator for Items<'_> {
    type Item = Result<Box<RawValue>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.next_item().transpose();
        // An error ends the list.
        self.is_last |= matches!(item, Some(Err(_)));
        item
    }
}
