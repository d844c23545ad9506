//! Ceremonies that were held, by every plan that comes with the program, with their bundles.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "each story takes what it needs")]

use std::fs;

use ceremony::plan::Plan;

use crate::{
    custody::{Custody, Page},
    machine::{Machine, plans},
    place::*,
};

/// A ceremony that came to its end.
pub(crate) struct Held {
    /// By which plan.
    pub(crate) name: String,
    pub(crate) transcript: String,
    pub(crate) bundle: Vec<u8>,
}

impl Held {
    /// By every plan; unattended, so that nobody types but custodians, and who writes down what they see.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Self::by_custodians();
        all.extend(Self::of_several_machines());
        for name in plans() {
            if all.iter().all(|held| held.name != name) {
                all.push(Self::alone(&name));
            }
        }
        all
    }

    /// A rotation of both PINs, and keys in a token that custodians opened.
    fn by_custodians() -> Vec<Self> {
        let custody = Custody::new();
        let rotated = custody.rotate("first");
        let user: Vec<&Page> = rotated.shares(true);
        custody.keys("second", &user[1..]);
        let held = |name: &str, transcript| Self::new(&custody.place, name, transcript);
        vec![held("pin-rotation", "first"), held("opened-by-shares", "second")]
    }

    fn of_several_machines() -> Vec<Self> {
        let (root, issuing) = Machine::furnished();
        let names = ["issue-intermediate", "root-crl", "cross", "roll-over"];
        for name in names {
            root.plan_small(name);
            Self::hold(&root, name);
        }
        issuing.take(&root, "issue-intermediate/issuing.pem", "exchange/issuing.pem");
        issuing.go_on().ok();
        issuing.kept("issuing");
        let held = names.iter().chain(&["offline-root"]);
        let mut held: Vec<Self> = held.map(|name| Self::new(&root.place, name, name)).collect();
        held.push(Self::new(&issuing.place, "issuing", "issuing"));
        held.push(Self::destroyed(&root));
        held
    }

    /// The root's key, at its end: people write down what they see, so that they type.
    fn destroyed(root: &Machine) -> Self {
        let (name, place) = ("key-destruction", &root.place);
        root.plan_small(name);
        let plan = root.text(&format!("{name}.toml"));
        let words = confirmations(&Plan::read(plan.as_ref()).unwrap());
        let bag = "CH-000042\none backup token\n".to_owned();
        let destroyed = "the backup token\ndrilled\nnothing\n".to_owned();
        let typed = [bag, words[..6].concat(), destroyed, words[6].clone()].concat();
        place.run_typing(&plan, &typed).ok();
        root.kept(name);
        Self::with(place, name, name, &["--rehearsal", &root.text("rehearsal.jsonl")])
    }

    /// On a machine of its own, with a second token for copies.
    fn alone(name: &str) -> Self {
        let machine = Machine::new();
        let place = &machine.place;
        machine.plan_small(name);
        if !place.text_of(&format!("{name}.toml")).contains(TOKEN_INIT) {
            place.initialize_token();
        }
        place.add_backup_token();
        Self::hold(&machine, name);
        Self::new(place, name, name)
    }

    fn hold(machine: &Machine, name: &str) {
        let (plan, exchange) = (machine.text(&format!("{name}.toml")), machine.text("exchange"));
        let flags = ["--unattended", "--exchange", &exchange];
        let text = machine.place.text_of(&format!("{name}.toml"));
        if text.contains("\"close\"") {
            machine.place.run_without_handoff(&plan, &flags).ok();
            fs::create_dir(machine.path("handoff")).unwrap();
        } else {
            machine.place.run(&plan, &flags).ok();
        }
        machine.kept(name);
    }

    fn new(place: &Place, name: &str, transcript: &str) -> Self {
        Self::with(place, name, transcript, &[])
    }

    fn with(place: &Place, name: &str, transcript: &str, given: &[&str]) -> Self {
        let transcript = place.text(&format!("{transcript}.jsonl"));
        let (site, photo) = (place.text("site.toml"), place.write("photo.jpg", "not a photo\n"));
        let output = place.text(&format!("{name}.bundle"));
        let mut arguments = vec!["bundle", &transcript, "-o", &output];
        arguments.extend(["--attach", &photo, "--hash-of", &photo]);
        arguments.extend(given);
        // Between two ceremonies of custodians, their site changed.
        if name != "pin-rotation" {
            arguments.extend(["--site", &site]);
        }
        program(&arguments).ok();
        let bundle = fs::read(&output).unwrap();
        let transcript = fs::read_to_string(&transcript).unwrap();
        Self { name: name.to_owned(), transcript, bundle }
    }
}
