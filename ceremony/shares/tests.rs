use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, process::Command};

use jiff::Timestamp;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::{
    entropy::Entropy,
    page::{self, Occasion},
    pin::{Alphabet, PinForm},
    text::{self, parse_line},
    *,
};

/// A set of this threshold and number of shares, the same for the same seed.
fn split(threshold: u8, count: u8, seed: u8) -> (Whole, ShareSet, Vec<Share>) {
    let mut entropy = entropy(seed);
    let secret = Whole::random(&mut entropy);
    let holders: Vec<Name> =
        (1..=count).map(|it| format!("holder-{it}").parse().unwrap()).collect();
    let (set, shares) =
        ShareSet::split(&secret, USER_PIN, threshold, &holders, &mut entropy).unwrap();
    (secret, set, shares)
}

fn entropy(seed: u8) -> Entropy {
    Entropy::seeded(Zeroizing::new(vec![seed; 32]))
}

fn printed(share: &Share) -> Vec<String> {
    share.to_lines().iter().map(|line| line.to_string()).collect()
}

const USER_PIN: Purpose =
    Purpose::UserPin(PinForm { alphabet: Alphabet::LettersAndDigits, length: 24 });

fn sizes() -> impl Strategy<Value = (u8, u8)> {
    (2..=8_u8).prop_flat_map(|count| (2..=count, Just(count)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn any_choice_of_enough_shares_gives_the_secret((threshold, count) in sizes(), seed: u8) {
        let (secret, set, shares) = split(threshold, count, seed);
        let choices = (0..1_u32 << count).filter(|it| it.count_ones() == u32::from(threshold));
        prop_assert_eq!(set.check_all(&shares).unwrap(), choices.count() as u32);
        let all = set.combine(&shares).unwrap();
        prop_assert_eq!(all.expose(), secret.expose());
        let last = &shares[usize::from(count - threshold)..];
        let enough = combine(last).unwrap();
        prop_assert_eq!(enough.expose(), secret.expose());
    }

    #[test]
    fn too_few_shares_never_give_the_secret((threshold, count) in sizes(), seed: u8) {
        let (secret, set, shares) = split(threshold, count, seed);
        let few = &shares[..usize::from(threshold - 1)];
        let refused = ShareError::TooFew { there: few.len(), wanted: threshold };
        prop_assert_eq!(set.combine(few).unwrap_err(), refused);
        prop_assert_eq!(combine(few).unwrap_err(), refused);
        // Nor does the scheme, where nobody counts: it takes two at least.
        if few.len() > 1 {
            let points: Vec<Vec<u8>> = few.iter().map(Share::point).collect();
            prop_assert_ne!(&Gf256::combine_bytes(&points).unwrap()[..], &secret.expose()[..]);
        }
    }

    #[test]
    fn a_changed_share_is_named((threshold, count) in sizes(), seed: u8, at in 0..32_usize, by in 1..=255_u8) {
        let (_, set, mut shares) = split(threshold, count, seed);
        shares[0].value[at] ^= by;
        prop_assert_eq!(set.check(&shares[0]), Err(ShareError::Corrupted(1)));
        prop_assert_eq!(set.combine(&shares).unwrap_err(), ShareError::Corrupted(1));
        prop_assert_eq!(set.check_all(&shares).unwrap_err(), ShareError::Corrupted(1));
        // Paper alone does not say which it is.
        prop_assert_eq!(combine(&shares).unwrap_err(), ShareError::Combination);
    }

    #[test]
    fn what_is_printed_is_read_back(seed: u8, index in 0..3_usize) {
        let (_, set, shares) = split(2, 3, seed);
        let lines = printed(&shares[index]);
        let numbered: String = (1..).zip(&lines).map(|(number, line)| format!("{number}  {line}\n")).collect();
        let careless = lines.join("\n\n").to_lowercase().replace('0', "o").replace('1', "l").replace(' ', "");
        for text in [lines.join("\n"), numbered, careless] {
            let share = Share::parse(&text).unwrap();
            prop_assert_eq!(set.check(&share), Ok(()));
            prop_assert_eq!(share.index, shares[index].index);
        }
    }

    #[test]
    fn a_slip_of_the_finger_is_named_by_its_line(seed: u8, line in 0..5_usize, at in 0..18_usize, by in 1..32_usize) {
        let (_, _, shares) = split(2, 3, seed);
        let mut lines: Vec<String> = printed(&shares[0]).iter().map(|line| line.replace(' ', "")).collect();
        let number = line as u8 + 1;
        let right = lines[line].clone();

        let mut wrong = right.clone().into_bytes();
        let value = text::ALPHABET.iter().position(|it| *it == wrong[at]).unwrap();
        wrong[at] = text::ALPHABET[(value + by) % 32];
        lines[line] = String::from_utf8(wrong).unwrap();
        prop_assert_eq!(Share::parse(&lines.join("\n")).unwrap_err(), ShareError::Line(number));

        // The first and the last are no neighbours.
        let mut exchanged = right.clone().into_bytes();
        exchanged.swap(at, (at + 1).min(17));
        let exchanged = String::from_utf8(exchanged).unwrap();
        prop_assert_eq!(parse_line(number, &exchanged).is_ok(), exchanged == right);
    }
}

#[test]
fn lines_of_two_shares_or_too_few_or_too_many_are_no_share() {
    let (_, _, shares) = split(2, 3, 7);
    let (first, second) = (printed(&shares[0]), printed(&shares[1]));
    let mixed = [&first[..3], &second[3..]].concat().join("\n");
    assert_eq!(Share::parse(&mixed).unwrap_err(), ShareError::Whole);
    assert_eq!(Share::parse(&first[..4].join("\n")).unwrap_err(), ShareError::Line(5));
    let more = [&first[..], &second[..1]].concat().join("\n");
    assert_eq!(Share::parse(&more).unwrap_err(), ShareError::Whole);
    let exchanged = [&first[1..2], &first[..1], &first[2..]].concat().join("\n");
    assert_eq!(Share::parse(&exchanged).unwrap_err(), ShareError::Line(1));
    assert_eq!(Share::parse("").unwrap_err(), ShareError::Line(1));
}

#[test]
fn shares_of_two_sets_and_the_same_share_twice_are_named() {
    let (_, set, shares) = split(2, 3, 1);
    let (_, other, others) = split(2, 3, 2);
    let (wanted, found) = (set.terms.set, other.terms.set);
    let refused = ShareError::AnotherSet { index: 2, found, wanted };
    let mixed = [shares[0].clone(), others[1].clone()];
    assert_eq!(combine(&mixed).unwrap_err(), refused);
    assert_eq!(set.combine(&mixed).unwrap_err(), refused);
    let forged = ShareSet { commitment: other.commitment, ..set.clone() };
    assert_eq!(forged.combine(&shares).unwrap_err(), ShareError::Combination);
    let twice = [shares[0].clone(), shares[0].clone()];
    assert_eq!(combine(&twice).unwrap_err(), ShareError::Twice(1));
    assert_eq!(set.combine(&twice).unwrap_err(), ShareError::Twice(1));
    assert_eq!(set.check_all(&shares[..2]).unwrap_err(), ShareError::Missing(3));
    assert_eq!(combine(&[]).unwrap_err(), ShareError::TooFew { there: 0, wanted: 2 });
}

#[test]
fn only_numbers_that_make_sense_are_taken() {
    let mut entropy = entropy(3);
    let secret = Whole::random(&mut entropy);
    let names = |count: usize| -> Vec<Name> {
        (0..count).map(|it| format!("holder-{it}").parse().unwrap()).collect()
    };
    let mut try_with = |threshold, holders: &[Name]| {
        ShareSet::split(&secret, USER_PIN, threshold, holders, &mut entropy).map(|(set, _)| set)
    };
    for (threshold, count) in [(1, 3), (4, 3), (2, 1), (2, 16), (0, 0)] {
        assert_eq!(try_with(threshold, &names(count)), Err(ShareError::Numbers));
    }
    let same = vec!["erin".parse::<Name>().unwrap(); 3];
    assert_eq!(try_with(2, &same), Err(ShareError::Numbers));
    let most = try_with(15, &names(15)).unwrap();
    assert!(most.is_sound());
    let mut broken = most.clone();
    broken.checks.pop();
    assert!(!broken.is_sound());
    let mut broken = most;
    broken.terms.threshold = 1;
    assert!(!broken.is_sound());
}

#[test]
fn pins_have_the_characters_and_the_length_that_the_token_wants() {
    for (alphabet, length, characters) in [
        (Alphabet::Digits, 8, 10),
        (Alphabet::LettersAndDigits, 24, 32),
        (Alphabet::Digits, 48, 10),
    ] {
        let form = PinForm { alphabet, length };
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let secret = Whole::random(&mut entropy(seed));
            let pin = Purpose::UserPin(form).pin(&secret).unwrap();
            assert_eq!(pin.expose().len(), usize::from(length));
            assert_eq!(pin.expose(), Purpose::SoPin(form).pin(&secret).unwrap().expose());
            seen.extend(pin.expose().bytes());
        }
        // Of 1600 characters and more, none of the alphabet is missing.
        assert_eq!(seen.len(), characters);
        assert!(text::ALPHABET[..characters].iter().all(|it| seen.contains(it)));
    }
    let secret = Whole(Zeroizing::new(std::array::from_fn(|at| u8::from(at == 31))));
    let form = PinForm { alphabet: Alphabet::Digits, length: 6 };
    assert_eq!(Purpose::UserPin(form).pin(&secret).unwrap().expose(), "100000");
    assert!(Purpose::WrappingKey.pin(&secret).is_none());
    assert!(!Purpose::UserPin(PinForm { alphabet: Alphabet::Digits, length: 5 }).is_sound());
    assert!(!Purpose::UserPin(PinForm { alphabet: Alphabet::Digits, length: 49 }).is_sound());
}

#[test]
fn secrets_and_shares_cannot_be_printed() {
    let (secret, _, shares) = split(2, 3, 9);
    assert_eq!(format!("{secret:?}"), "Whole(…)");
    let said = format!("{:?}", shares[1]);
    assert_eq!(said, format!("Share(2 of set {}, …)", shares[1].terms.set));
}

#[test]
fn two_splits_of_one_secret_have_nothing_in_common() {
    let mut entropy = entropy(5);
    let secret = Whole::random(&mut entropy);
    let holders: Vec<Name> = ["erin", "frank"].map(|it| it.parse().unwrap()).to_vec();
    let mut again =
        || ShareSet::split(&secret, Purpose::WrappingKey, 2, &holders, &mut entropy).unwrap();
    let ((one, ones), (two, twos)) = (again(), again());
    assert_ne!(one.terms.set, two.terms.set);
    assert_ne!(one.commitment, two.commitment);
    assert_ne!(ones[0].point(), twos[0].point());
    // The operating system's bytes are in it, whatever the token gives.
    let gathered = || Entropy::gather(&[0; 32]).unwrap().bytes::<32>();
    assert_ne!(gathered(), gathered());
}

/// Another implementation: tables of logarithms in Python, and nothing but the lines on paper.
#[test]
fn another_program_gets_the_same_secret_from_the_paper() {
    for (threshold, count) in [(2, 2), (2, 3), (3, 5), (7, 12), (15, 15)] {
        let (secret, set, shares) = split(threshold, count, threshold ^ count << 4);
        let enough = &shares[usize::from(count - threshold)..];
        let paper: Vec<String> = enough.iter().map(|share| printed(share).join("\n")).collect();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/shares/combine.py");
        let answer = Command::new("python3").arg(script).args(&paper).output().unwrap();
        let said = String::from_utf8_lossy(&answer.stdout);
        assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        let pin = set.terms.purpose.pin(&secret).unwrap();
        let wanted =
            format!("{}\n{}\n{}\n", set.terms.set, hex::encode(secret.expose()), pin.expose());
        assert_eq!(said, wanted);
    }
}

#[test]
fn pages_are_for_their_owner_alone_and_leave_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (_, set, shares) = split(2, 3, 4);
    let occasion = Occasion {
        ceremony: "root-2026".parse().unwrap(),
        words: "topmost Istanbul".to_owned(),
        token: "label \"a<b\", serial \"00\"".to_owned(),
        time: Timestamp::UNIX_EPOCH,
    };
    let pages = page::print(directory.path(), &set, &shares, &occasion).unwrap();
    assert_eq!(pages.len(), 3);
    for ((page, share), index) in pages.iter().zip(&shares).zip(1..) {
        assert_eq!(fs::metadata(page).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(page).unwrap();
        for wanted in
            ["a&lt;b", "holder-", "topmost Istanbul", "1970-01-01", "any 2 of 3 shares together"]
        {
            assert!(text.contains(wanted), "{wanted}");
        }
        let others = printed(&shares[index % 3]);
        assert!(printed(share).iter().all(|line| text.contains(line)));
        assert!(!text.contains(&others[2]), "one share a page");
        let read = page::read(directory.path(), &set, index as u8).unwrap();
        assert_eq!(set.check(&read), Ok(()));
    }
    // A page is never overwritten, and those of a set that is not whole are taken away.
    fs::remove_file(&pages[0]).unwrap();
    page::print(directory.path(), &set, &shares, &occasion).unwrap_err();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    page::remove(directory.path(), &set).unwrap();
    page::read(directory.path(), &set, 1).unwrap_err();
}

#[test]
fn the_blank_sheet_has_a_box_for_each_character() {
    let sheets = page::blank(2);
    assert_eq!(sheets.matches("<section>").count(), 2);
    assert_eq!(sheets.matches("class=\"box\"").count(), 2 * 5 * 18);
    assert!(!sheets.contains("http") && !sheets.contains("<script"));
}
