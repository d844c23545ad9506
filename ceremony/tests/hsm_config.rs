//! Every site file in `hsm-config/` is one that the ceremony reads.

use std::{error::Error as _, fs, path::Path};

use ceremony::site::Site;

#[test]
fn every_kind_of_token_has_a_site_file_that_is_understood() {
    let kinds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hsm-config");
    let mut count = 0;
    for kind in fs::read_dir(&kinds).unwrap() {
        let kind = kind.unwrap().path();
        if !kind.is_dir() {
            continue;
        }
        let path = kind.join("site.toml");
        if let Err(error) = Site::read(&path) {
            panic!("{}: {error}: {:?}", path.display(), error.source());
        }
        count += 1;
    }
    assert!(count >= 10, "only {count} kinds of tokens in {}", kinds.display());
}
