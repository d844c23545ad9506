//! A key is made only in a token that refuses to let it be misused.

#[path = "harness/place.rs"]
mod place;

use std::fs;

use serde_json::Value;

use place::*;

#[test]
fn how_the_token_refused_each_attempt_is_recorded() {
    let place = Place::new();
    place.run(ROOT_AND_ISSUING, &["--unattended"]).ok();
    let outcomes = place.events("outcome");
    let keys: Vec<&Value> = outcomes
        .iter()
        .map(|it| &it["key-generated"]["attempts"])
        .filter(|it| it.is_object())
        .collect();
    assert_eq!(keys.len(), 3);
    for attempts in keys {
        assert_eq!(attempts["wrap it under another key"], "CKR_KEY_UNEXTRACTABLE");
        assert_eq!(attempts["make it extractable"], "CKR_ACTION_PROHIBITED");
        assert_eq!(attempts.as_object().unwrap().len(), 6, "{attempts}");
    }
}

#[test]
fn a_key_that_was_let_out_or_changed_is_destroyed() {
    let table = [
        ("C_CopyObject", "copy it as an extractable key"),
        ("C_DeriveKey", "use it for another purpose"),
        ("C_SetAttributeValue", "make it extractable"),
        ("C_WrapKey", "wrap it under another key"),
    ];
    for (function, said) in table {
        let place = Place::new();
        place.initialize_token();
        let keys = place.write("keys.toml", &keys_only());
        token_that_lets(&place, function);
        place.run(&keys, &["--unattended"]).refused(4, said);
        assert_eq!(place.objects(), "", "{function}");
        // A better token goes on; the same one does not.
        place.resume(&[]).refused(4, said);
        place.write("healed.toml", &format!("module = \"{MODULE}\"\n"));
        fs::rename(place.path("healed.toml"), place.path("plan.toml")).unwrap();
        place.resume(&[]).ok();
        place.verify(&["--handoff", &place.text("handoff")]).ok();
    }
}

#[test]
fn a_token_whose_keys_can_be_changed_takes_a_reason_that_is_recorded() {
    let place = Place::new();
    place.initialize_token();
    let keys = place.write("keys.toml", &keys_only());
    token_that_lets(&place, "C_SetAttributeValue");
    let site = place.text_of("site.toml");
    place
        .write("site.toml", &format!("changeable_keys = \"the chip never lets them out\"\n{site}"));
    place.run(&keys, &["--unattended"]).ok();
    let verified = place.verify(&[]).ok();
    assert!(verified.contains("be changed: the chip never lets them out"), "{verified}");
}

/// Puts a module between program and token by which this function succeeds, whatever is asked of it.
fn token_that_lets(place: &Place, function: &str) {
    let shim = built("debug/deps/libchancery_shim.so");
    let site = place.text_of("site.toml").replace(MODULE, &shim);
    place.write("site.toml", &format!("{site}CHANCERY_SHIM = \"{}\"\n", place.text("")));
    let fault = format!("[[faults]]\nfunction = \"{function}\"\nfrom = 1\nevery = 1\n");
    let plan = format!("module = \"{MODULE}\"\n{fault}action = {{ return = 0 }}\n");
    place.write("plan.toml", &plan);
}
