//! `docs/console.png`: the console as a person sees it while the shop is being released.
#![allow(clippy::print_stdout, reason = "a command line tool")]

use std::path::Path;
use std::process::Command;

use tests::browser::Browser;
use tests::served::Served;

fn main() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let built =
        Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "local"]).current_dir(workspace).status();
    assert!(built.is_ok_and(|status| status.success()), "`local` cannot be built");
    let program = std::env::current_exe().map(|own| own.with_file_name("local")).unwrap_or_default();
    let (shop, state) = (workspace.join("examples/shop"), workspace.join(".cutover"));
    let browser = Browser::start().unwrap_or_else(|why| panic!("{why}"));
    // Where services of each kind are deployed, a canary among them.
    let mut served = Served::start(&program, &shop, &shop.join("local.mixed.yaml"), &state);
    browser.look(1280, 1180, "light");
    browser.open(&served.link);
    browser.click("#start button");
    browser.click(".approval button.good");
    // In the midst of it: some of the traffic has moved.
    browser.until("document.querySelector('#services-rows').innerText.includes('10 %')");
    let picture = workspace.join("docs/console.png");
    std::fs::write(&picture, browser.picture(false)).unwrap_or_else(|error| panic!("{}: {error}", picture.display()));
    println!("{}", picture.display());
    served.interrupt();
}
