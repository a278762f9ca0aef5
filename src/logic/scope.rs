//! Scopes: words joined by `:`, with `*` as the last or only word covering everything below.

use crate::error::{Error, Result};

pub const MAX_SCOPES: usize = 256;
pub const MAX_SCOPE_BYTES: usize = 256;

/// Checks one list of scopes as a caller gave it. `argument` names it in the error.
pub fn check<'a>(
    argument: &'static str,
    scopes: impl IntoIterator<Item = Option<&'a str>>,
) -> Result<()> {
    let mut count = 0;
    for scope in scopes {
        let scope = scope.ok_or(Error::Missing { argument })?;
        if scope.len() > MAX_SCOPE_BYTES {
            let (max, actual) = (MAX_SCOPE_BYTES, scope.len());
            return Err(Error::Length { argument, min: 1, max, actual });
        }
        if !is_well_formed(scope) {
            return Err(Error::Malformed {
                argument,
                expected: "words of [A-Za-z0-9_.-] joined by \":\", \"*\" only as the last word",
            });
        }
        count += 1;
    }
    if count > MAX_SCOPES {
        return Err(Error::TooMany { argument, max: MAX_SCOPES, actual: count });
    }
    Ok(())
}

fn is_well_formed(scope: &str) -> bool {
    let words = scope.strip_suffix(":*").unwrap_or(scope);
    scope == "*" || words.split(':').all(is_word)
}

fn is_word(word: &str) -> bool {
    !word.is_empty()
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Does holding `held` grant `needed`? Needing `a:*` takes `a:*` or something wider.
pub fn covers(held: &str, needed: &str) -> bool {
    if held == "*" || held == needed {
        return true;
    }
    // The prefix keeps its colon, so that `ab:*` does not cover `abc:d`.
    held.strip_suffix('*').is_some_and(|prefix| prefix.ends_with(':') && needed.starts_with(prefix))
}

pub fn covers_all<'a>(held: &[&str], needed: impl IntoIterator<Item = &'a str>) -> bool {
    needed.into_iter().all(|needed| held.iter().any(|held| covers(held, needed)))
}

/// An heir may have less than its parent holds, never more.
pub fn check_narrowing(held: &[String], wanted: Option<&[&str]>) -> Result<()> {
    let held: Vec<&str> = held.iter().map(String::as_str).collect();
    let wanted = wanted.unwrap_or_default().iter().copied();
    if covers_all(&held, wanted) { Ok(()) } else { Err(Error::WidensScopes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn word() -> impl Strategy<Value = String> {
        "[A-Za-z0-9_.-]{1,6}"
    }

    proptest! {
        #[test]
        fn a_wildcard_covers_exactly_what_is_below_it(
            above in prop::collection::vec(word(), 1..4),
            below in prop::collection::vec(word(), 1..4),
        ) {
            let above = above.join(":");
            let wildcard = format!("{above}:*");
            let needed = format!("{above}:{}", below.join(":"));
            prop_assert!(covers(&wildcard, &needed));
            prop_assert!(!covers(&wildcard, &above));
            prop_assert!(!covers(&above, &needed));
            prop_assert!(covers("*", &needed));
            let sibling = format!("{above}x:y");
            prop_assert!(!covers(&wildcard, &sibling));
        }

        #[test]
        fn what_check_accepts_has_only_its_alphabet(text in "\\PC{0,12}") {
            if check("scopes", [Some(text.as_str())]).is_ok() {
                prop_assert!(!text.is_empty());
                prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-:*".contains(&b)));
            }
        }
    }

    #[test]
    fn syntax() {
        for good in ["a", "*", "a:b", "a:*", "a.b-c_d:E9:*"] {
            assert!(is_well_formed(good), "{good}");
        }
        for bad in ["", ":", "a:", ":a", "a::b", "*:a", "a*", "a:b*", "a:*:b", "a b", "ä", "*:*"] {
            assert!(!is_well_formed(bad), "{bad}");
        }
    }

    #[test]
    fn null_and_bounds_are_errors() {
        assert_eq!(check("scopes", [None]), Err(Error::Missing { argument: "scopes" }));
        let many = vec![Some("a"); MAX_SCOPES + 1];
        assert!(matches!(check("scopes", many), Err(Error::TooMany { .. })));
        let long = "a".repeat(MAX_SCOPE_BYTES + 1);
        assert!(matches!(check("scopes", [Some(long.as_str())]), Err(Error::Length { .. })));
    }

    #[test]
    fn all_needed_scopes_must_be_held() {
        assert!(covers_all(&["a:*", "b"], ["a:x", "b"]));
        assert!(!covers_all(&["a:*", "b"], ["a:x", "c"]));
        assert!(covers_all(&[], []));
    }
}
