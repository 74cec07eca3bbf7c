//! The story of the demo, with exact refusals.

mod common;

use std::process::Command;

#[test]
fn the_story_goes_as_it_must() {
    if !common::is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(common::lab()).args(["story", "--folder"]).arg(folder.path()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(!told.contains('✗'), "{told}");
    assert!(told.matches('✓').count() >= 40, "{told}");
}
