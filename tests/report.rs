//! The HTML report as the real program writes it: what it counts, what it keeps to itself, and how
//! it looks in a browser.
#![cfg(test)]

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

#[path = "it/support/browser.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the test of the status page")]
mod browser;

use browser::Browser;

const PROGRAM: &str = env!("CARGO_BIN_EXE_dnma-relay");
/// Hits of the generated files.
const HITS: u64 = 600;
const SCHOOLS: u64 = 45;
/// 2026-11-16 06:00 UTC, a Monday.
const MORNING: i64 = 1_794_808_800;
/// Longer than any run takes: only a browser that hangs meets it.
const DEADLINE: Duration = Duration::from_secs(90);

/// A file of hits, and what of it must stay in it.
struct File {
    text: String,
    secrets: BTreeSet<String>,
}

/// A school: seven digits and their check letter.
fn school(index: u64) -> String {
    let number = 750_600 + index % SCHOOLS;
    let letter = b"ABCDEFGHJKLMNPRSTUVWXYZ"[usize::try_from(number % 23).expect("small")];
    format!("{number:07}{}", char::from(letter))
}

/// One hit, right but for what its number says.
fn hit(index: u64, secrets: &mut BTreeSet<String>) -> Value {
    let uid = format!("{:016x}{index:016x}", index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let ua =
        format!("Mozilla/5.0 (X11; Linux x86_64; rv:{index}.7) Gecko/20100101 Firefox/{index}.7");
    let url = format!("https://ent.example.fr/page/{index}?devoir={index}-secret");
    let profile = ["ELEVE", "ELEVE", "ENSEIGNANT", "PARENT"][index as usize % 4];
    let service = ["ACCUEIL", "NOTES", "ABSENCES"][index as usize % 3];
    let mut hit = json!({
        "idsite": "1", "uid": uid, "url": url, "url_ref": "https://ent.example.fr/accueil",
        "dimension1": school(index),
        "dimension2": profile, "dimension3": "EXPLOITANT", "dimension4": "PLATEFORME",
        "dimension6": "OUTIL", "dimension7": "NATIF", "dimension8": service,
        "dimension9": "Travail", "dimension10": "Semaine 48", "dimension11": "WEB-PWA",
        "action_name": format!("Page intime {index}"),
        "cdt": MORNING + 20 * index as i64, "ua": ua,
    });
    match index {
        0..10 => hit["dimension8"] = "<script>alert(1)</script>".into(),
        10..40 => hit["dimension8"] = format!("NOTE{}", index % 15).into(),
        40..50 => hit["dimension2"] = "National_elv".into(),
        50..55 => hit["dimension10"] = format!("Message de jean.dupont{index}@ecole.fr").into(),
        // Columns that were swapped.
        55..60 => (hit["dimension6"], hit["ua"]) = (hit["ua"].clone(), "OUTIL".into()),
        60..65 => (hit["dimension4"], hit["uid"]) = (hit["uid"].clone(), "PLATEFORME".into()),
        65..70 => (hit["dimension8"], hit["url"]) = (hit["url"].clone(), "NOTES".into()),
        70..75 => hit[format!("marie.curie{index}@ecole.fr")] = "1".into(),
        _ => {}
    }
    secrets.extend([uid, ua, format!("{index}-secret"), format!("Page intime {index}")]);
    secrets.extend([
        format!("jean.dupont{index}"),
        format!("marie.curie{index}"),
        "ent.example.fr".to_owned(),
    ]);
    hit
}

/// Objects, one a line; every hundredth is broken.
fn objects() -> File {
    let mut secrets = BTreeSet::new();
    let line = |index| {
        if index % 100 == 99 {
            "{\"uid\":\n".to_owned()
        } else {
            format!("{}\n", hit(index, &mut secrets))
        }
    };
    let text = (0..HITS).map(line).collect();
    File { text, secrets }
}

/// An access log; every third hit is an hour ahead of its receipt.
fn access_log() -> File {
    let mut secrets = BTreeSet::new();
    let line = |index: u64| {
        let hit = hit(index, &mut secrets);
        let cdt = hit["cdt"].as_i64().expect("a time");
        let received = jiff::Timestamp::from_second(if index.is_multiple_of(3) {
            cdt - 3_595
        } else {
            cdt + 2
        })
        .expect("in range");
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let encode = |value: String| {
            percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC)
                .to_string()
        };
        let pairs = hit
            .as_object()
            .expect("an object")
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name.clone()), encode(text(value))));
        let (query, time) =
            (pairs.collect::<Vec<_>>().join("&"), received.strftime("%d/%b/%Y:%H:%M:%S +0000"));
        format!(
            "192.0.2.1 - - [{time}] \"GET /matomo.php?{query} HTTP/1.1\" 204 0 \"-\" \"curl\"\n"
        )
    };
    let text = (0..HITS).map(line).collect();
    File { text, secrets }
}

/// What the program writes.
async fn validate(text: &str, options: &[&str]) -> String {
    let mut child = Command::new(PROGRAM)
        .args(["validate", "-"])
        .args(options)
        .env_remove("REFERENCE_LISTS")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let mut input = child.stdin.take().expect("an input");
    let text = text.to_owned();
    let writer = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut input, text.as_bytes()).await
    });
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output())
        .await
        .expect("in time")
        .expect("an output");
    writer.await.expect("a writer").expect("the input is read");
    assert!(matches!(output.status.code(), Some(0 | 1)), "{:?}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

async fn page(text: &str, language: &str) -> String {
    validate(text, &["--format", "html", "--lang", language]).await
}

/// What stands between two texts, wherever they follow each other.
fn between<'t>(text: &'t str, before: &str, after: &str) -> Vec<&'t str> {
    text.split(before).skip(1).filter_map(|rest| rest.split(after).next()).collect()
}

/// A number without the separators of its language.
fn number(text: &str) -> u64 {
    let digits: String =
        text.chars().filter(|c| !matches!(c, ',' | '\u{202f}' | '\u{a0}')).collect();
    digits.trim().parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

/// The sum of the first cells after each of these marks.
fn sum(text: &str, before: &str) -> u64 {
    between(text, before, "<")
        .iter()
        .map(|cell| number(cell.split(" ·").next().expect("a cell")))
        .sum()
}

fn section<'p>(page: &'p str, id: &str) -> &'p str {
    between(page, &format!("<section aria-labelledby=\"{id}\">"), "</section>")
        .first()
        .unwrap_or_else(|| panic!("no section {id}"))
}

/// Hits, rejected, with warnings, fine.
fn tiles(page: &str) -> Vec<u64> {
    let tiles = between(page, "<dl class=\"tiles\">", "</dl>")[0].split("</dt><dd").skip(1);
    tiles.filter_map(|rest| rest.split(['>', '<']).nth(1)).map(number).collect()
}

#[tokio::test]
async fn the_page_counts_what_the_file_holds() {
    let File { text, .. } = objects();
    let summary = validate(&text, &["--format", "json"]).await;
    let summary: Value =
        serde_json::from_str(summary.lines().last().expect("a summary")).expect("JSON");
    let count = |name: &str| summary["summary"][name].as_u64().expect("a number");
    // 30 wrong services, 10 scripts, 5 addresses for services; one line in a hundred is broken.
    assert_eq!((count("hits"), count("with_errors")), (HITS, 45 + HITS / 100));
    let expected = [
        HITS,
        count("with_errors"),
        count("with_warnings"),
        HITS - count("with_errors") - count("with_warnings"),
    ];
    for (language, title, share) in [
        ("en", "Not ready: 2\u{a0}errors", "8.5\u{a0}%"),
        ("fr", "Pas prêt\u{a0}: 2\u{a0}erreurs", "8,5\u{202f}%"),
    ] {
        let page = page(&text, language).await;
        assert!(
            page.starts_with("<!doctype html>")
                && page.contains(&format!("<html lang=\"{language}\">"))
        );
        assert_eq!(page.matches("<h1>").count(), 1);
        assert!(page.contains(title) && page.contains(share), "{language}");
        assert_eq!(tiles(&page), expected, "{language}");
        // The script, 15 services, and all that must not be told as one.
        let errors = section(&page, "errors");
        assert_eq!(errors.matches("<li class=\"card error").count(), 2);
        assert_eq!(
            (errors.matches("<td class=\"number\">").count(), sum(errors, "<td class=\"number\">")),
            (17, 45)
        );
        assert!(
            errors.contains("45\u{a0}hits")
                && errors.contains("6\u{a0}hits")
                && errors.contains("NOTES</bdi>")
        );
        let coverage = section(&page, "coverage");
        for seen in ["ACCUEIL", "NOTES", &school(7), "EXPLOITANT"] {
            assert!(
                between(coverage, "<ul class=\"bars\">", "</ul>")
                    .iter()
                    .any(|bars| bars.contains(seen)),
                "{seen}"
            );
        }
        assert!(
            between(coverage, "<h4>", "</ul>")
                .iter()
                .any(|never| never.contains(">VISIOCONFERENCE<")),
            "never seen"
        );
        let schools = coverage.split("<div class=\"card\">").nth(1).expect("schools");
        assert!(schools.contains(&format!("{SCHOOLS}\u{a0}")), "{schools}");
        assert_eq!(
            sum(schools, "<span class=\"number\">") + sum(schools, "<span class=\"soft\">"),
            HITS - HITS / 100
        );
        assert!(schools.contains("<details><summary>25\u{a0}"), "20 at once, the rest on demand");
        assert_eq!(sum(section(&page, "lag"), "<span class=\"number\">"), HITS - HITS / 100);
        assert_eq!(sum(section(&page, "time"), "<td class=\"number\">"), HITS - HITS / 100);
        for list in ["exploitants", "plateformes", "outils", "exceptions"] {
            assert!(section(&page, "lists").contains(list), "{list}");
        }
    }
}

#[tokio::test]
async fn nothing_of_a_person_and_no_markup_of_the_file_is_in_the_page() {
    for File { text, secrets } in [objects(), access_log()] {
        for secret in &secrets {
            assert!(secret.len() > 6, "{secret}");
        }
        for language in ["en", "fr"] {
            let page = page(&text, language).await;
            for secret in &secrets {
                assert!(!page.contains(secret.as_str()), "{secret}");
            }
            assert!(
                page.contains("&#60;script&#62;alert(1)&#60;/script&#62;"),
                "the value is there, escaped"
            );
            for foreign in [
                "<script",
                "http:",
                "https:",
                " src=",
                "url(",
                "@import",
                "<link",
                "<img",
                "<iframe",
                "<object",
                "192.0.2.1",
            ] {
                assert!(!page.contains(foreign), "{foreign}");
            }
            assert!(page.contains("content=\"default-src 'none'; style-src 'unsafe-inline'\""));
        }
    }
}

#[tokio::test]
async fn a_local_time_is_told_in_words() {
    let log = access_log();
    for (language, words, none) in [
        (
            "en",
            "a local time is sent as UTC: send UTC or a UNIX timestamp",
            "does not tell when its hits were received",
        ),
        (
            "fr",
            "une heure locale est transmise comme UTC\u{a0}: transmettez l&#39;UTC ou un \
             timestamp UNIX",
            "ne dit pas quand ses hits ont été reçus",
        ),
    ] {
        let page_of_log = page(&log.text, language).await;
        let lag = section(&page_of_log, "lag");
        assert!(
            lag.contains(words) && lag.contains(&format!("<b>{}\u{a0}hits", HITS / 3)),
            "{lag}"
        );
        assert!(!lag.contains(none));
        let page_of_objects = page(&objects().text, language).await;
        assert!(section(&page_of_objects, "lag").contains(none), "{language}");
    }
}

#[tokio::test]
async fn the_smallest_files_have_a_page_too() {
    let empty = page("", "en").await;
    assert!(
        empty.contains("<h1>Nothing to judge") && !empty.contains("<svg") && !empty.contains("NaN")
    );
    let one = hit(100, &mut BTreeSet::new()).to_string();
    assert!(page(&one, "en").await.contains("<h1>Ready: no hit breaks the plan"));
    assert!(page(&one, "fr").await.contains("<h1>Prêt\u{a0}: aucun hit n&#39;enfreint le plan"));
    let warned = hit(45, &mut BTreeSet::new()).to_string();
    assert!(
        page(&warned, "en")
            .await
            .contains("<h1>Ready: no hit would be rejected; 1\u{a0}warning to look at")
    );
    let broken = page("{\n{\n", "en").await;
    let headline = "<h1>Not ready: 1\u{a0}error to correct, 100\u{a0}% of hits would be rejected";
    assert!(broken.contains(headline));
    assert!(section(&broken, "time").contains("No hit has a readable time"));

    let lists = tempfile::tempdir().expect("a folder");
    for (name, value) in [
        ("exploitants", "EXPLOITANT"),
        ("plateformes", "PLATEFORME"),
        ("outils", "OUTIL\nAUTRE"),
        ("exceptions", "OUTIL"),
    ] {
        std::fs::write(lists.path().join(name).with_extension("txt"), value).expect("a list");
    }
    let folder = lists.path().to_str().expect("UTF-8");
    let listed = validate(&one, &["--format", "html", "--lists", folder]).await;
    assert!(
        section(&listed, "lists").contains("every list of the plan is loaded")
            && !listed.contains("href=\"#lists\">1")
    );
    assert!(section(&listed, "coverage").contains(">AUTRE<"), "a tool that was never seen");
}

#[tokio::test]
async fn a_browser_draws_the_page_at_every_width() {
    let Some(browser) = Browser::find("the HTML report") else { return };
    let one = hit(100, &mut BTreeSet::new()).to_string();
    let pages = [
        (page(&objects().text, "fr").await, true),
        (page(&access_log().text, "en").await, true),
        (page(&one, "en").await, true),
        (page("{\n", "fr").await, true),
        (page("", "en").await, false),
    ];
    for (index, (page, drawn)) in pages.iter().enumerate() {
        for dark in [false, true] {
            let measured = browser.measure(page, dark).await.expect("measured");
            assert_eq!(measured.len(), 10, "{index}: every width, closed and open");
            for frame in measured {
                let at = |name: &str| frame[name].as_f64().unwrap_or(f64::INFINITY);
                assert!(at("scroll") <= at("width"), "sideways scrolling in page {index}: {frame}");
                assert!(at("height") > 300.0 && at("contrast") >= 4.5, "page {index}: {frame}");
                assert_eq!(
                    at("pictures") as usize,
                    page.matches("<svg ").count(),
                    "page {index}: {frame}"
                );
                assert_eq!(at("pictures") > 0.0, *drawn, "page {index}: {frame}");
                assert!(at("least") > 0.0, "a picture without extent in page {index}: {frame}");
                assert_eq!(frame["dark"], dark, "page {index}: {frame}");
                assert_eq!(at("fetched"), 0.0, "page {index}: {frame}");
            }
        }
    }
}

/// What the page asked the network for.
async fn requests(browser: &Browser, page: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("page.html");
    std::fs::write(&file, page).expect("a page");
    let opened = browser
        .open(&format!("file://{}", file.display()), Duration::from_secs(1))
        .await
        .expect("opened");
    opened.requests.into_iter().filter(|url| !url.starts_with("file:")).collect()
}

#[tokio::test]
async fn the_page_fetches_nothing_and_lets_nothing_be_fetched() {
    let Some(browser) = Browser::find("the HTML report") else { return };
    let page = page(&objects().text, "en").await;
    assert_eq!(requests(&browser, &page).await, [""; 0]);
    let image = "<img src=\"http://picture.invalid/x.png\"></body>";
    let tampered = page.replace("</body>", image);
    assert_eq!(requests(&browser, &tampered).await, [""; 0], "its policy forbids it");
    let unguarded = tampered.replace("Content-Security-Policy", "x-none");
    assert_eq!(
        requests(&browser, &unguarded).await,
        ["http://picture.invalid/x.png"],
        "a request would be seen"
    );
}
