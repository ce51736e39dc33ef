use super::*;

fn response(status: u16, content_type: &str, body: &str) -> Answer {
    let body = Body::read(content_type, body.as_bytes());
    Answer::Response { status, body, retry_after: None, at_once: false }
}
fn json(body: &str) -> Answer {
    response(200, "application/json", body)
}
fn gif() -> String {
    format!("GIF89a{}", "x".repeat(37))
}
fn reason(interpretation: &Interpretation) -> Option<Reason> {
    interpretation.failure().map(|failure| failure.reason)
}

#[test]
fn a_200_is_delivered_only_if_the_count_adds_up() {
    assert_eq!(
        interpret(Api::Bulk, &json(r#"{"status":"success","tracked":3,"invalid":0}"#), 3),
        Interpretation::Stored { queued: false }
    );
    let cases = [
        (json(r#"{"status":"success","tracked":0,"invalid":0}"#), Reason::TrackerOff),
        (json(r#"{"status":"success","tracked":2,"invalid":0}"#), Reason::CountMismatch),
        (json(r#"{"status":"success","tracked":4,"invalid":0}"#), Reason::CountMismatch),
        (
            json(r#"{"status":"success","tracked":18446744073709551615,"invalid":4}"#),
            Reason::CountMismatch,
        ),
        (json(r#"{"status":"error","tracked":3,"invalid":0}"#), Reason::NotMatomo),
        (json("[]"), Reason::NotMatomo),
        (
            response(200, "text/html", "Error:SQLSTATE[HY000]: General error: 2006"),
            Reason::NotMatomo,
        ),
        (
            response(200, "text/html", "a page that is \"tracked\" by a rival"),
            Reason::CountMismatch,
        ),
        (response(200, "text/html", ""), Reason::NotMatomo),
        (response(200, "image/gif", "GIF too short"), Reason::NotMatomo),
    ];
    for (answer, expected) in cases {
        assert_eq!(reason(&interpret(Api::Bulk, &answer, 3)), Some(expected), "{answer:?}");
    }
    assert_eq!(
        interpret(Api::Bulk, &response(200, "image/gif", &gif()), 3),
        Interpretation::Stored { queued: true }
    );
    assert_eq!(
        interpret(Api::Single, &response(200, "image/gif", &gif()), 1),
        Interpretation::Stored { queued: false }
    );
    assert_eq!(
        reason(&interpret(
            Api::Single,
            &json(r#"{"status":"success","tracked":0,"invalid":0}"#),
            1
        )),
        Some(Reason::NotMatomo)
    );
}

#[test]
fn every_status_has_its_meaning_for_a_bulk_and_for_a_single_hit() {
    use Interpretation::{Down, DownAmbiguous, Suspect, SuspectAmbiguous};
    type Meaning = fn(Failure) -> Interpretation;
    let cases: [(&[u16], Meaning, Reason); 10] = [
        (&[300, 301, 302, 304, 399], Down, Reason::Redirect),
        (&[400, 401, 403, 404, 407, 409, 428, 430, 499], Suspect, Reason::ClientError),
        (&[408], Down, Reason::Unavailable),
        (&[429], Down, Reason::TooManyRequests),
        (&[500], Suspect, Reason::ServerError),
        (&[502], SuspectAmbiguous, Reason::BadGateway),
        (&[504], DownAmbiguous, Reason::GatewayTimeout),
        (&[501, 503, 505, 520, 599], Down, Reason::Unavailable),
        (&[100, 201, 202, 203, 205, 206, 299, 600], Down, Reason::NotMatomo),
        (&[200], Down, Reason::NotMatomo),
    ];
    for (statuses, meaning, reason) in cases {
        for status in statuses {
            let expected = meaning(Failure { reason, status: Some(*status) });
            // The body counts for nothing, not even one that says that all is well.
            for body in [gif(), String::new(), "Error".to_owned()] {
                let kind = if *status == 200 { "text/html" } else { "image/gif" };
                let answer = response(*status, kind, &body);
                for api in [Api::Bulk, Api::Single] {
                    assert_eq!(interpret(api, &answer, 1), expected, "{api:?} {answer:?}");
                }
            }
        }
    }
}

#[test]
fn a_204_is_a_single_hit_that_is_stored_and_a_bulk_that_is_queued() {
    let answer = response(204, "", "");
    for (api, queued) in [(Api::Bulk, true), (Api::Single, false)] {
        assert_eq!(interpret(api, &answer, 1), Interpretation::Stored { queued }, "{api:?}");
    }
}

#[test]
fn without_a_response_only_a_connection_that_failed_is_sure_to_have_stored_nothing() {
    let failure = |reason| Failure { reason, status: None };
    for (answer, expected) in [
        (Answer::Unreachable, Interpretation::Down(failure(Reason::Unreachable))),
        (Answer::TimedOut, Interpretation::DownAmbiguous(failure(Reason::Timeout))),
        (Answer::Broken, Interpretation::DownAmbiguous(failure(Reason::ConnectionLost))),
    ] {
        for api in [Api::Bulk, Api::Single] {
            assert_eq!(interpret(api, &answer, 1), expected, "{api:?}");
        }
        assert_eq!(answer.retry_after(), None, "{answer:?}");
    }
}

#[test]
fn a_response_may_ask_to_wait() {
    for retry_after in [None, Some(Duration::ZERO), Some(Duration::from_secs(120))] {
        let answer =
            Answer::Response { status: 429, body: Body::Empty, retry_after, at_once: true };
        assert_eq!(answer.retry_after(), retry_after);
    }
}

#[test]
fn a_body_is_what_its_type_its_length_and_its_text_say() {
    let (counts, length) = (r#"{"status":"success","tracked":3,"invalid":0}"#, GIF_BYTES);
    let counted = Body::Counts(Counts {
        status: "success".to_owned(),
        tracked: 3,
        invalid: 0,
        invalid_indices: None,
    });
    let bytes = |length: usize| format!("GIF89a{}", "x".repeat(length - 6));
    for (kind, text, expected) in [
        ("image/gif", bytes(length), Body::Gif),
        ("IMAGE/Gif ; charset=binary", bytes(length), Body::Gif),
        ("image/gif", bytes(length - 1), Body::Other),
        ("image/gif", bytes(length + 1), Body::Other),
        ("image/gif", format!("<br />Notice<br />{}", gif()), Body::Gif),
        ("image/gif", format!("{}This resource is part of Matomo", gif()), Body::Other),
        ("image/gif", "G".repeat(length), Body::Other),
        ("image/png", bytes(length), Body::Other),
        ("", bytes(length), Body::Other),
        ("application/json", counts.to_owned(), counted.clone()),
        (" Application/JSON; charset=utf-8", counts.to_owned(), counted.clone()),
        ("application/jsonp", counts.to_owned(), counted.clone()),
        ("application/json", bytes(length), Body::Other),
        ("application/json", r#"{"status":"success","tracked":3}"#.to_owned(), Body::Unclear),
        ("application/json", counts.replace('3', "-3"), Body::Unclear),
        ("image/gif", String::new(), Body::Empty),
        ("application/json", String::new(), Body::Empty),
        ("", String::new(), Body::Empty),
    ] {
        assert_eq!(Body::read(kind, text.as_bytes()), expected, "{kind}: {text}");
    }
}

#[test]
fn hits_are_in_doubt_where_nobody_knows_what_was_stored() {
    let bulk = |answer: &Answer| interpret(Api::Bulk, answer, 3).doubt();
    assert_eq!(bulk(&Answer::TimedOut), Some(Reason::Timeout));
    assert_eq!(bulk(&Answer::Broken), Some(Reason::ConnectionLost));
    assert_eq!(bulk(&response(504, "text/html", "")), Some(Reason::GatewayTimeout));
    for (counts, expected) in [
        (r#"{"status":"success","tracked":3,"invalid":0}"#, None),
        (r#"{"status":"success","tracked":2,"invalid":0}"#, Some(Reason::CountMismatch)),
        (r#"{"status":"success","tracked":2,"invalid":1}"#, Some(Reason::Refused)),
        (r#"{"status":"success","tracked":2,"invalid":1,"invalid_indices":[1]}"#, None),
        (r#"{"status":"success","tracked":0,"invalid":3}"#, None),
        (r#"{"status":"success","tracked":0,"invalid":0}"#, None),
    ] {
        assert_eq!(bulk(&json(counts)), expected, "{counts}");
    }
    assert_eq!(bulk(&Answer::Unreachable), None);
    for status in [302, 400, 429, 500, 503] {
        assert_eq!(bulk(&response(status, "text/html", "")), None, "{status}");
    }
    assert_eq!(bulk(&response(502, "text/html", "")), Some(Reason::BadGateway));
    let at_once =
        Answer::Response { status: 502, body: Body::Other, retry_after: None, at_once: true };
    assert_eq!(bulk(&at_once), None, "nothing is stored in no time");
}

/// A rollback counts up to the hit that failed. A deadlock on a table of Matomo's own strikes after
/// the last one, and leaves some or all of them stored.
#[test]
fn a_500_that_counts_every_hit_leaves_them_in_doubt() {
    for (tracked, expected) in [(0, None), (2, None), (3, Some(Reason::ServerError))] {
        let body = format!(r#"{{"status":"error","tracked":{tracked},"invalid":0}}"#);
        let interpretation = interpret(Api::Bulk, &response(500, "application/json", &body), 3);
        assert_eq!(interpretation.doubt(), expected, "{tracked} of 3");
    }
    let single = interpret(Api::Single, &response(500, "text/html", ""), 1);
    assert_eq!(single.doubt(), None);
}

#[test]
fn a_transaction_that_ended_is_the_bulks_own_failure() {
    let text = "Error:There is no active transaction";
    let failure = Failure { reason: Reason::ServerError, status: Some(200) };
    let interpretation = interpret(Api::Bulk, &response(200, "text/html", text), 3);
    assert_eq!(interpretation, Interpretation::Suspect(failure));
}

#[test]
fn a_count_is_read_where_it_stands_once() {
    let count = r#"{"status":"success","tracked":3,"invalid":0}"#;
    let notice = "<br />\n<b>Notice</b>: Undefined index: {x} in <b>/matomo.php</b><br />\n";
    for text in [
        format!("\u{feff}{count}"),
        format!("{notice}{count}"),
        format!("{count}\n<!-- cached {{\"status\": 1}} -->"),
    ] {
        for kind in ["application/json", "text/html"] {
            let answer = response(200, kind, &text);
            let interpretation = interpret(Api::Bulk, &answer, 3);
            assert_eq!(interpretation, Interpretation::Stored { queued: false }, "{text}");
        }
    }
    let fewer = json(&format!("{notice}{}", count.replace('3', "2")));
    assert_eq!(interpret(Api::Bulk, &fewer, 3).doubt(), Some(Reason::CountMismatch));
    for text in [
        format!("{count}{count}"),
        format!("{}{count}", count.replace('3', "0")),
        count.replace("3,", "<b>3</b>,"),
    ] {
        let interpretation = interpret(Api::Bulk, &json(&text), 3);
        assert_eq!(interpretation.doubt(), Some(Reason::CountMismatch), "{text}");
    }
}

#[test]
fn refused_hits_are_named_only_when_the_list_can_be_true() {
    let refused = |body: &str| match interpret(Api::Bulk, &json(body), 3) {
        Interpretation::Refused { places, .. } => places,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(r#"{"status":"success","tracked":2,"invalid":1,"invalid_indices":[1]}"#),
        Some(vec![1])
    );
    assert_eq!(refused(r#"{"status":"success","tracked":2,"invalid":1}"#), None);
    assert_eq!(
        refused(r#"{"status":"success","tracked":2,"invalid":1,"invalid_indices":[3]}"#),
        None
    );
    assert_eq!(
        refused(r#"{"status":"success","tracked":1,"invalid":2,"invalid_indices":[1,1]}"#),
        None
    );
    assert_eq!(refused(r#"{"status":"success","tracked":0,"invalid":3}"#), Some(vec![0, 1, 2]));
}

#[test]
fn a_list_of_places_is_credible_if_it_has_each_refused_hit_once() {
    for (places, invalid, expected) in [
        (&[0][..], 1, true),
        (&[2], 1, true),
        (&[2, 0], 2, true),
        (&[], 1, false),
        (&[3], 1, false),
        (&[0, 3], 2, false),
        (&[0, 1], 1, false),
        (&[0], 2, false),
        (&[1, 1], 1, false),
        (&[1, 1], 2, false),
    ] {
        assert_eq!(credible(places, invalid, 3), expected, "{places:?} of {invalid}");
    }
}

#[test]
fn an_excerpt_has_words_and_no_values() {
    for (text, expected) in [
        ("<html>\n<form>Please sign in</form>", "<html> <form>Please sign in</form>"),
        (
            "Error:SQLSTATE[23000]: Duplicate entry 'f00b4r' for key uid=f00b4r a@b.fr",
            "… Duplicate entry … for key … …",
        ),
        ("Duplicate entry 'Jean Dupont 3B' for key", "Duplicate entry … … … for key"),
        ("said \"Jean Dupont", "said … …"),
        ("\u{1b}[31mred", "…"),
        ("", ""),
    ] {
        assert_eq!(excerpt(text.as_bytes()), expected);
    }
    assert_eq!(excerpt(&[b'x'; 100_000]), "…");
    assert!(excerpt("word ".repeat(1_000).as_bytes()).len() <= MAX_EXCERPT);
}
