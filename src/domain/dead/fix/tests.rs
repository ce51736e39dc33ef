use super::*;
use crate::domain::hit::decode;

fn fixed(fixes: &[&str], body: &str) -> Option<String> {
    let plan = Plan::built_in().expect("plan");
    let fixes: Vec<Fix> = fixes.iter().map(|fix| fix.parse().expect("a fix")).collect();
    let first_seen = Timestamp::from_second(1_732_549_300).ok();
    apply_fixes(&plan, &fixes, &decode(body.as_bytes(), None).expect("a hit"), first_seen)
        .map(|body| String::from_utf8(body).expect("UTF-8"))
}

#[test]
fn each_word_changes_its_own_and_nothing_else() {
    for (fix, before, after) in [
        (
            "rename:dimension8:CANTINE=SERVICE_COLLECTIVITE",
            r#"{"dimension8":"CANTINE","action_name":"CANTINE"}"#,
            r#"{"dimension8":"SERVICE_COLLECTIVITE","action_name":"CANTINE"}"#,
        ),
        ("upper:dimension7", r#"{"dimension7":"natif"}"#, r#"{"dimension7":"NATIF"}"#),
        ("trim:dimension2", r#"{"dimension2":" ELEVE "}"#, r#"{"dimension2":"ELEVE"}"#),
        ("default:exploitant=ALPHA", r#"{"uid":"u"}"#, r#"{"uid":"u","dimension3":"ALPHA"}"#),
        ("default:plateforme=PA", "?uid=u&dimension4=", r#"{"uid":"u","dimension4":"PA"}"#),
        ("seconds", r#"{"cdt":1732549235000}"#, r#"{"cdt":"1732549235"}"#),
        (
            "utc:Europe/Paris",
            r#"{"cdt":"2024-11-25 16:40:35"}"#,
            r#"{"cdt":"2024-11-25T15:40:35Z"}"#,
        ),
        ("utc:Europe/Paris", r#"{"cdt":1732552835}"#, r#"{"cdt":"2024-11-25T15:40:35Z"}"#),
        (
            "utc:Indian/Reunion",
            r#"{"cdt":"2024-11-25T19:40:35"}"#,
            r#"{"cdt":"2024-11-25T15:40:35Z"}"#,
        ),
        (
            "default:exploitant=ALPHA",
            r#"{"dimension3":null,"x":null}"#,
            r#"{"x":null,"dimension3":"ALPHA"}"#,
        ),
    ] {
        assert_eq!(fixed(&[fix], before).as_deref(), Some(after), "{fix}");
    }
    for (fix, body) in [
        ("rename:dimension8:CANTINE=NOTES", r#"{"dimension8":"ABSENCES"}"#),
        ("upper:dimension7", r#"{"dimension7":"NATIF"}"#),
        ("default:exploitant=ALPHA", r#"{"dimension3":"BETA"}"#),
        ("seconds", r#"{"cdt":1732549235}"#),
        ("default:exploitant=ALPHA", r#"{"dimension3":"","dimension3":"BETA"}"#),
        ("utc:Europe/Paris", r#"{"cdt":"2024-11-25T16:40:35+01:00"}"#),
        ("utc:Europe/Paris", r#"{"cdt":1732549235}"#),
        ("upper:dimension7", r#"{"dimension7":"natif","x":[1]}"#),
    ] {
        assert_eq!(fixed(&[fix], body), None, "{fix}");
    }
}

#[test]
fn several_are_applied_in_their_order() {
    let fixes =
        ["trim:dimension8", "upper:dimension8", "rename:dimension8:CANTINE=SERVICE_COLLECTIVITE"];
    assert_eq!(
        fixed(&fixes, r#"{"dimension8":" cantine"}"#).as_deref(),
        Some(r#"{"dimension8":"SERVICE_COLLECTIVITE"}"#)
    );
}

#[test]
fn a_wrong_one_is_refused_by_its_own_name() {
    let plan = Plan::built_in().expect("plan");
    let refused = |text: &str| {
        text.parse::<Fix>().and_then(|fix| fix.check(&plan)).expect_err(text).to_string()
    };
    for (text, expected) in [
        ("lower:dimension8", "no such fix"),
        ("rename:dimension8", "rename:FIELD:OLD=NEW"),
        ("upper:", "upper:FIELD"),
        ("utc:", "utc:ZONE"),
        ("utc:Europe/Pari", "no such time zone"),
        ("upper:dimension5", "no such field"),
        ("rename:uid:a=b", "visitor's identity"),
        ("trim:_id", "visitor's identity"),
        ("rename:ua:Firefox=x", "may tell of a person"),
        ("rename:url:https://e.fr/?login=jean=x", "may tell of a person"),
        ("trim:rand", "supplied by the relay"),
        ("default:dimension8=NOTES", "cannot be given a default"),
        ("default:exploitant= ", "empty"),
        ("rename:dimension8:CANTINE=SERVICE_COLECTIVITE", "is SERVICE_COLLECTIVITE meant?"),
    ] {
        assert!(refused(text).contains(expected), "{text}: {}", refused(text));
    }
    assert_eq!("rename:dimension9:a=b".parse::<Fix>().and_then(|fix| fix.check(&plan)), Ok(()));
}
