//! The script: the plan on paper, to be followed and filled in at the ceremony. Baseline Requirements
//! section 6.1.1.1 calls it the Key Generation Script.
//!
//! What is known beforehand is printed: identifiers of keys, subjects, the words that each person
//! types. What is not has room to be written down: serial numbers, fingerprints, times, initials.

use crate::{
    name::Name,
    paper::{Block, Cell, Line, Paper, Table},
    people::Person,
    plan::{Plan, Step},
    steps::sign_certificate::{AuthorityKind, Certificate},
    transcript::TOOL,
    words::words,
};

/// What the script says of a step besides its effect and its details.
pub(crate) struct Sheet {
    /// What the program does, and what people should look at.
    pub(crate) explanation: &'static str,
    /// What is known only afterwards, and is written down.
    pub(crate) blanks: Vec<String>,
    /// How long it takes, with the reading and the typing.
    pub(crate) minutes: u32,
    /// Words are typed before it is done.
    pub(crate) confirmed: bool,
}

impl Default for Sheet {
    fn default() -> Self {
        Self { explanation: "", blanks: Vec::new(), minutes: 5, confirmed: true }
    }
}

/// The script of a plan.
pub fn script(plan: &Plan) -> Paper {
    let mut blocks = cover(plan);
    blocks.push(Block::Page);
    blocks.extend(people(plan));
    blocks.extend(materials(plan));
    blocks.extend(made(plan));
    blocks.push(Block::Page);
    blocks.extend(beginning(plan));
    blocks.extend(steps(plan));
    blocks.extend(end());
    blocks.push(Block::Page);
    blocks.extend(exceptions());
    blocks.push(Block::Page);
    blocks.extend(signatures(plan));
    Paper {
        title: "Key ceremony script".to_owned(),
        subtitle: plan.script().id.to_string(),
        mark: None,
        foot: vec![format!("plan {}", plan.hash()), spoken(plan)],
        blocks,
    }
}

fn cover(plan: &Plan) -> Vec<Block> {
    let minutes: u32 = plan.steps().map(|(_, step)| step.kind().sheet().minutes).sum();
    let minutes = minutes + MINUTES_AROUND;
    let facts = Table::of_facts([
        ("Ceremony", vec![Line::strong(&plan.script().id)]),
        ("Plan, SHA-256", vec![Line::code(plan.hash())]),
        ("The same, spoken", vec![Line::strong(spoken(plan))]),
        ("Program", vec![Line::text(TOOL)]),
        ("Steps", vec![Line::text(plan.script().steps.len())]),
        ("Makes", vec![Line::text(summary(plan))]),
        ("Refuses a machine with", vec![Line::text(demands(plan))]),
        ("Takes about", vec![Line::text(format!("{} h {:02} min", minutes / 60, minutes % 60))]),
    ]);
    let filled = Table::of_facts([
        ("Date", vec![Line::Room]),
        ("Place and room", vec![Line::Room]),
        ("Began, ended (UTC)", vec![Line::Room]),
        ("Recording: files, SHA-256", vec![Line::Room, Line::Room]),
        ("This copy belongs to", vec![Line::Room]),
    ]);
    vec![
        Block::Table(facts),
        Block::Lines(vec![
            Line::text(
                "The ten words stand at the foot of every page. Before the first step, compare them with \
                 those that the program shows, and with those in your copy of the approval: the same \
                 words mean the same plan.",
            ),
            Line::text(
                "Follow the steps in their order. Write the time and your initials at each; whatever is \
                 not as it is printed here goes onto the sheet of exceptions, and into the transcript \
                 with `chancery-ceremony except`.",
            ),
        ]),
        Block::Heading("To be filled in".to_owned()),
        Block::Table(filled),
    ]
}

fn summary(plan: &Plan) -> String {
    let script = plan.script();
    let count = |number: usize, one: &str| match number {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    };
    let made = [
        (plan.keys().count(), "key"),
        (plan.certificates().count(), "certificate"),
        (script.ssh.len(), "SSH CA"),
    ];
    let made = made.into_iter().filter(|(number, _)| *number > 0);
    made.map(|(number, one)| count(number, one)).collect::<Vec<_>>().join(", ")
}

/// What the program looks for before anything else.
fn demands(plan: &Plan) -> String {
    let checks = &plan.script().machine.refuse;
    if checks.is_empty() {
        return "nothing; what is found is recorded".to_owned();
    }
    let checks: Vec<String> = checks.iter().map(|check| format!("findings of {check}")).collect();
    checks.join(", ")
}

fn people(plan: &Plan) -> Vec<Block> {
    let people = &plan.script().people;
    let mut blocks = vec![Block::Heading("Roles and persons".to_owned())];
    if people.is_empty() {
        blocks.push(Block::Lines(vec![Line::text(
            "The plan names nobody: one person confirms each step.",
        )]));
        let mut table = Table::new([("Name", 40), ("Role", 25), ("Signature", 35)]);
        table.rows = (0..2).map(|_| vec![vec![Line::Room]; 3]).collect();
        blocks.push(Block::Table(table));
        return blocks;
    }
    let mut roles =
        Table::new([("Role", 22), ("Present", 16), ("Approve", 16), ("Confirm", 16), ("Does", 30)]);
    for (role, least) in &people.roles {
        let of = |quorum: &std::collections::BTreeMap<Name, u32>| {
            Line::text(quorum.get(role).map_or("-".to_owned(), |count| format!("{count} or more")))
        };
        roles.rows.push(vec![
            vec![Line::strong(role)],
            vec![Line::text(format!("{least} or more"))],
            vec![of(&people.quorum.approve)],
            vec![of(&people.quorum.confirm)],
            vec![Line::text(duty(role))],
        ]);
    }
    let mut persons = Table::new([("Name", 18), ("Role", 16), ("SSH key", 44), ("Present", 22)]);
    for (name, Person { role, key }) in &people.persons {
        persons.rows.push(vec![
            vec![Line::strong(name)],
            vec![Line::text(role)],
            vec![Line::code(key.fingerprint())],
            vec![Line::tick("seen, document checked")],
        ]);
    }
    blocks.extend([Block::Table(roles), Block::Table(persons)]);
    blocks
}

/// What a role does, of those that a ceremony usually has.
fn duty(role: &Name) -> &'static str {
    match role.as_str() {
        "auditor" => "watches all of it, and says whether the script was followed",
        "custodian" => "keeps a part of a secret, and nobody else's",
        "operator" => "types what is printed here",
        "witness" => "reads along, and confirms what was done",
        _ => "as the plan says",
    }
}

fn materials(plan: &Plan) -> Vec<Block> {
    let mut table =
        Table::new([("Material", 46), ("Serial, bag or seal number", 36), ("Checked", 18)]);
    let mut row = |what: &str| {
        let checked = vec![Line::tick("there")];
        table.rows.push(vec![vec![Line::text(what)], vec![Line::Room], checked]);
    };
    row("Computer, without disk and without radio");
    row("Medium that it starts from; its SHA-256 compared");
    row("Token");
    if plan.needs_backup_token() {
        row("Backup token");
    }
    if plan.initializes_token() {
        row("File with the security officer's PIN");
    }
    row("File with the user's PIN");
    row("Medium for the first journal, empty");
    row("Medium for the second journal, empty");
    row("Medium with plan, site, rehearsal and approvals");
    if !plan.script().people.is_empty() {
        row("SSH key of each person, on a card or a medium of theirs");
    }
    row("Tamper-evident bags, clock, camera");
    vec![Block::Heading("Materials".to_owned()), Block::Table(table)]
}

/// What the plan makes, as far as it is known before it is made.
fn made(plan: &Plan) -> Vec<Block> {
    let mut keys =
        Table::new([("Key", 16), ("Kind", 14), ("Label (CKA_LABEL)", 36), ("CKA_ID", 34)]);
    for key in plan.keys() {
        keys.rows.push(vec![
            vec![Line::strong(&key.name)],
            vec![Line::text(key.algorithm)],
            vec![Line::code(&key.label)],
            vec![Line::code(plan.key_id(&key.name))],
        ]);
    }
    let mut blocks = vec![Block::Heading("Keys".to_owned()), Block::Table(keys)];
    let certificates: Vec<_> = plan.certificates().map(certificate).collect();
    if !certificates.is_empty() {
        let mut table = Table::new([("Certificate", 16), ("Signed by", 16), ("What is in it", 68)]);
        table.rows = certificates;
        blocks.extend([Block::Heading("Certificates".to_owned()), Block::Table(table)]);
    }
    if !plan.script().ssh.is_empty() {
        let mut table = Table::new([("SSH CA", 30), ("Key", 30), ("Certificates of", 40)]);
        for (name, authority) in &plan.script().ssh {
            let usage = format!("{:?}s", authority.usage).to_lowercase();
            table.rows.push(vec![
                vec![Line::strong(name)],
                vec![Line::text(&authority.key)],
                vec![Line::text(usage)],
            ]);
        }
        blocks.extend([Block::Heading("SSH CAs".to_owned()), Block::Table(table)]);
    }
    blocks
}

fn certificate(certificate: &Certificate) -> Vec<Cell> {
    let Certificate { name, subject, not_before, not_after, publication, .. } = certificate;
    let (signer, below) = match &certificate.kind {
        AuthorityKind::Cross { signer, path_length, .. }
        | AuthorityKind::Issuing { signer, path_length } => {
            (signer.to_string(), below(Some(*path_length)))
        }
        AuthorityKind::Root { path_length } => ("itself".to_owned(), below(*path_length)),
    };
    let mut content = vec![
        Line::code(subject),
        Line::text(format!("valid from {not_before}")),
        Line::text(format!("to {not_after}")),
        Line::text(below),
    ];
    let urls = [
        ("its CRL", &publication.crl_url),
        ("its OCSP", &publication.ocsp_url),
        ("its certificate", &publication.issuer_url),
    ];
    for (what, url) in urls {
        content.extend(url.iter().map(|url| Line::code(format!("{what}: {url}"))));
    }
    vec![vec![Line::strong(name)], vec![Line::text(signer)], content]
}

/// What a path length means (RFC 5280 section 4.2.1.9).
fn below(path_length: Option<u8>) -> String {
    match path_length {
        None => "any number of CAs may stand below it".to_owned(),
        Some(0) => "no CA may stand below it".to_owned(),
        Some(1) => "CAs may stand below it, and none below those".to_owned(),
        Some(length) => format!("CAs may stand below it, {length} one under another"),
    }
}

fn beginning(plan: &Plan) -> Vec<Block> {
    let mut table = activities();
    let mut row = |number: &str, what: Cell| table.rows.push(activity(number, what));
    row(
        "A",
        vec![
            Line::strong("Enter, and close the door"),
            Line::text("Note who is in the room. Start the recording; show a clock to the camera."),
            Line::blank("recording began, UTC"),
        ],
    );
    row(
        "B",
        vec![
            Line::strong("Open the bags"),
            Line::text("Compare each number with the list of materials before it is opened."),
        ],
    );
    row(
        "C",
        vec![
            Line::strong("Start the computer, and check the program"),
            Line::code("sha256sum $(command -v chancery-ceremony)"),
            Line::blank("first 16 digits"),
            Line::code("date --utc"),
            Line::tick("the clock in the room says the same"),
        ],
    );
    row(
        "D",
        vec![
            Line::strong("Begin"),
            Line::code(
                "chancery-ceremony run PLAN --site SITE --rehearsal REHEARSAL --approval FILE… \
                 --journal A --journal B --handoff DIRECTORY",
            ),
            Line::text("The program shows the plan. Read aloud:"),
            Line::strong(spoken(plan)),
            Line::tick("the words are those at the foot of this page"),
        ],
    );
    if !plan.script().people.is_empty() {
        row(
            "E",
            vec![
                Line::strong("Call the roll"),
                Line::text("Type the names of all who are present, with spaces between them."),
                Line::blank("names"),
            ],
        );
    }
    row(
        "F",
        vec![
            Line::strong("Compare the clocks"),
            Line::text(
                "The program shows what it found of the machine, and the time of its clock. Read another \
                 clock to the minute, and type what it says: two persons, if the plan names several.",
            ),
            Line::blank("the other clock, UTC"),
        ],
    );
    vec![Block::Heading("Before the first step".to_owned()), Block::Table(table)]
}

fn steps(plan: &Plan) -> Vec<Block> {
    let mut table = activities();
    for (number, step) in plan.steps() {
        let mut what = vec![Line::strong(format!("{step}"))];
        what.extend(step.details().iter().flat_map(|text| text.lines()).map(Line::code));
        let sheet = step.kind().sheet();
        if !sheet.explanation.is_empty() {
            what.push(Line::text(sheet.explanation));
        }
        if sheet.confirmed {
            what.extend(confirmations(plan, number, step));
        }
        what.extend(sheet.blanks.into_iter().map(Line::blank));
        table.rows.push(activity(&number.to_string(), what));
    }
    vec![Block::Heading("The steps".to_owned()), Block::Table(table)]
}

/// The words that each person types.
fn confirmations(plan: &Plan, number: u32, step: &Step) -> Vec<Line> {
    let people = &plan.script().people;
    let words = |person| plan.confirmation(number, &step.to_string(), person);
    if people.is_empty() {
        return vec![Line::text("to confirm, type:"), Line::strong(words(None))];
    }
    let confirm = &people.quorum.confirm;
    let enough: Vec<String> =
        confirm.iter().map(|(role, count)| format!("{count} {role}")).collect();
    let mut lines = vec![Line::text(match enough.as_slice() {
        [] => "to confirm, one of these types:".to_owned(),
        several => format!("to confirm, {} or more type, each their own:", several.join(" and ")),
    })];
    lines.extend(
        people.persons.keys().map(|name| Line::code(format!("{name}: {}", words(Some(name))))),
    );
    lines
}

fn end() -> Vec<Block> {
    let mut table = activities();
    let mut row = |number: &str, what: Cell| table.rows.push(activity(number, what));
    row(
        "X",
        vec![
            Line::strong("Write down the head of the transcript"),
            Line::text("As the program shows it at its end; each witness for themselves."),
            Line::blank("first 16 digits"),
            Line::blank("ten words"),
            Line::Room,
            Line::tick("both journals are there, and are the same: sha256sum A B"),
        ],
    );
    row(
        "Y",
        vec![
            Line::strong("Pack"),
            Line::text("Token, each journal and the PIN files go into bags of their own."),
            Line::blank("bag of the token"),
            Line::blank("bag of journal A"),
            Line::blank("bag of journal B"),
            Line::blank("bag of the PIN files"),
        ],
    );
    row(
        "Z",
        vec![
            Line::strong("Switch the computer off, and end the recording"),
            Line::text("Show the clock, and the head above, to the camera."),
            Line::blank("recording ended, UTC"),
        ],
    );
    vec![Block::Heading("After the last step".to_owned()), Block::Table(table)]
}

fn exceptions() -> Vec<Block> {
    let mut table = Table::new([
        ("No.", 6),
        ("Time, UTC", 14),
        ("Step", 8),
        ("What happened, and what was decided", 54),
        ("Initials", 18),
    ]);
    for number in 1..=7 {
        let mut row = vec![vec![Line::text(number)]];
        row.extend([vec![], vec![], vec![Line::Room, Line::Room, Line::Room], vec![]]);
        table.rows.push(row);
    }
    vec![
        Block::Heading("Exceptions".to_owned()),
        Block::Lines(vec![
            Line::text(
                "Everything that was not as it is printed: a seal that is broken, a person who leaves, a step \
                 that was done again. Each also goes into the transcript:",
            ),
            Line::code(
                "chancery-ceremony except --journal A --journal B --by NAME --text \"WHAT HAPPENED\"",
            ),
        ]),
        Block::Table(table),
        Block::Lines(vec![Line::tick("there was no exception")]),
    ]
}

fn signatures(plan: &Plan) -> Vec<Block> {
    let mut table =
        Table::new([("Name", 26), ("Role", 18), ("Signature", 36), ("Date, time UTC", 20)]);
    let people = &plan.script().people;
    for (name, person) in &people.persons {
        table.rows.push(vec![
            vec![Line::strong(name), Line::Room],
            vec![Line::text(&person.role)],
            vec![],
            vec![],
        ]);
    }
    for _ in 0..3 {
        table.rows.push(vec![vec![Line::Room, Line::Room], vec![], vec![], vec![]]);
    }
    vec![
        Block::Heading("Sign-off".to_owned()),
        Block::Lines(vec![
            Line::text("I was present from the beginning to the end, except as noted above."),
            Line::text(
                "The ceremony was performed in accordance with this script; every deviation is on the sheet \
                 of exceptions.",
            ),
        ]),
        Block::Table(table),
    ]
}

fn activities() -> Table {
    Table::new([("Step", 7), ("What happens", 63), ("Time, UTC", 14), ("Initials", 16)])
}

fn activity(number: &str, mut what: Cell) -> Vec<Cell> {
    what.push(Line::tick("done"));
    vec![vec![Line::strong(number)], what, vec![], vec![]]
}

fn spoken(plan: &Plan) -> String {
    words(&plan.hash().as_bytes()[..10])
}

/// Entering, the bags, the start; writing the head down, packing, leaving.
const MINUTES_AROUND: u32 = 60;
