//! Clients that ask as fast as they are answered while something happens, and what they got.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use serde_json::Value;

use crate::failure::Failure;

/// What clients asked and were answered so far.
#[derive(Default)]
pub struct Load {
    over: AtomicBool,
    outcomes: Mutex<Vec<Outcome>>,
}

struct Outcome {
    asked: Instant,
    answered: Instant,
    answer: Result<Value, String>,
}

impl Load {
    /// Lets so many clients ask until `story` ends and each of them was answered.
    ///
    /// # Errors
    ///
    /// The story's own, with what clients were answered. Their errors alone are none.
    pub fn during<T>(
        clients: usize,
        ask: impl Fn() -> Result<Value, Failure> + Sync,
        story: impl FnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<(Self, T), Failure> {
        let load = Self::default();
        let told = thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| load.ask(&ask));
            }
            let told = story(&load);
            load.over.store(true, Ordering::Relaxed);
            told
        });
        match told {
            Ok(told) => Ok((load, told)),
            Err(failure) => Err(load.tell(&failure)),
        }
    }

    /// The answers.
    pub fn answers(&self) -> Vec<Value> {
        self.each(|all| all.iter().filter_map(|one| one.answer.clone().ok()).collect())
    }

    /// How many answers there are.
    pub fn count(&self) -> usize {
        self.each(|all| all.iter().filter(|one| one.answer.is_ok()).count())
    }

    /// What clients got instead of an answer.
    pub fn errors(&self) -> Vec<String> {
        self.each(|all| all.iter().filter_map(|one| one.answer.clone().err()).collect())
    }

    /// How many questions were asked after a moment and answered.
    pub fn asked_after(&self, moment: Instant) -> usize {
        self.each(|all| all.iter().filter(|one| one.answer.is_ok() && one.asked > moment).count())
    }

    /// When the first answer came after a moment.
    pub fn first_after(&self, moment: Instant) -> Option<Instant> {
        let good = |one: &&Outcome| one.answer.is_ok() && one.answered > moment;
        self.each(|all| all.iter().filter(good).map(|one| one.answered).min())
    }

    fn ask(&self, ask: &impl Fn() -> Result<Value, Failure>) {
        while !self.over.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let answer = ask().map_err(|failure| failure.to_string());
            self.each(|all| all.push(Outcome { asked, answered: Instant::now(), answer }));
        }
    }

    fn each<T>(&self, look: impl FnOnce(&mut Vec<Outcome>) -> T) -> T {
        look(&mut self.outcomes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell(&self, failure: &Failure) -> Failure {
        let (answers, errors) = (self.count(), self.errors());
        Failure::new(failure.to_string())
            .said(format!("{answers} answers, {} errors: {errors:#?}", errors.len()))
    }
}
