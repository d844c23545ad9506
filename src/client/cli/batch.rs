//! `chancery batch`: lines in, lines out, in as many requests as it takes.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    process::ExitCode,
};

use api::{BATCH_ITEMS, BATCH_LEN, BatchItem};
use client::Client;

use super::{
    arguments::Batch,
    failure::{Failure, REFUSED},
    output::Output,
};

pub(super) async fn run(
    client: &Client,
    batch: &Batch,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let mut lines = open(batch)?.lines().enumerate();
    let mut first = 0;
    let mut refused = false;
    let mut left_over = None;
    loop {
        let (items, next) = take(left_over.take(), &mut lines, batch)?;
        if items.is_empty() {
            return Ok(if refused { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS });
        }
        left_over = next;
        let count = items.len();
        let mut answers = client.batch(items).await?;
        while let Some(mut result) = answers.next().await? {
            result.index += first;
            refused |= result.status >= 400;
            output.line(&result)?;
        }
        first += count;
    }
}

/// An item and the length of its line.
type Sized = (BatchItem, usize);

/// The items of one request: as many as one may have. The item that did not fit begins the next.
fn take(
    left_over: Option<Sized>,
    lines: &mut impl Iterator<Item = (usize, io::Result<String>)>,
    batch: &Batch,
) -> Result<(Vec<BatchItem>, Option<Sized>), Failure> {
    let mut items = Vec::new();
    let mut length = 0;
    let mut next = left_over;
    loop {
        let Some((item, len)) =
            next.take().map_or_else(|| parse(lines.next(), batch), |it| Ok(Some(it)))?
        else {
            return Ok((items, None));
        };
        if items.len() == BATCH_ITEMS || (length + len > BATCH_LEN && !items.is_empty()) {
            return Ok((items, Some((item, len))));
        }
        length += len;
        items.push(item);
    }
}

fn parse(
    line: Option<(usize, io::Result<String>)>,
    batch: &Batch,
) -> Result<Option<Sized>, Failure> {
    let Some((index, line)) = line else { return Ok(None) };
    let line = line.map_err(|source| Failure::Read { path: batch.file.clone(), source })?;
    let item = serde_json::from_str(&line).map_err(|error| Failure::Usage {
        what: format!("{}, line {}: {error}", batch.file.display(), index + 1),
        hint: Some(
            "what was asked for before this line is in the output; `chancery batch --help` shows \
             what lines look like"
                .to_owned(),
        ),
    })?;
    Ok(Some((item, line.len() + KEY_LEN)))
}

fn open(batch: &Batch) -> Result<Box<dyn BufRead>, Failure> {
    if batch.file.as_os_str() == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(&batch.file)
        .map_err(|source| Failure::Read { path: batch.file.clone(), source })?;
    Ok(Box::new(BufReader::new(file)))
}

/// What an idempotency key and the line end may add to a line.
const KEY_LEN: usize = 64;
