//! The composed form of a text. `É` is one character or two, `E` and an accent, which look alike;
//! macOS writes the names of files in the second way.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

use super::scan;

/// Composes a text (NFC): borrowed if it is composed, as nearly every text is.
pub(super) fn compose(text: &str) -> Cow<'_, str> {
    if scan::any(text.as_bytes(), |byte| byte >= 0x80) {
        ComposingNormalizerBorrowed::new_nfc().normalize(text)
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decomposed_text_is_composed_and_other_text_is_borrowed() {
        for text in ["", "ECOLE", "École", "œuvre à lire", "日本"] {
            assert!(matches!(compose(text), Cow::Borrowed(same) if same == text), "{text}");
        }
        assert_eq!(compose("E\u{301}cole a\u{300} lire"), "École à lire");
    }
}
