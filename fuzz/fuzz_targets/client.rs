//! What a client sends beside its token: headers of its request, a cursor it was once given. And
//! what is sent to it, with a namespace of its choice in it.
#![no_main]

use api_tokens_logic::cursor::{Cursor, Snapshot};
use api_tokens_logic::event::Notice;
use api_tokens_logic::header::{bearer, presented};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const NAMES: [&str; 5] = ["authorization", "AUTHORIZATION", "x-api-key", "X-Api-Key", "cookie"];

fn headers<'a>(list: impl Iterator<Item = &'a (u8, &'a str)>) -> String {
    let name = |choice: &u8| NAMES[usize::from(*choice) % NAMES.len()];
    let members =
        list.map(|(choice, value)| format!("\"{}\":{}", name(choice), Value::from(*value)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

fuzz_target!(|input: (&[u8], Vec<(u8, &str)>)| {
    let (bytes, list) = input;
    for header in [bytes, &[b"Bearer ", bytes].concat()] {
        if let Some(token) = bearer(header) {
            let scheme = header.trim_ascii_end().strip_suffix(token.as_bytes()).expect("its end");
            let scheme = scheme.strip_suffix(b" ").expect("a blank").trim_ascii();
            assert!(scheme.eq_ignore_ascii_case(b"bearer"));
            assert!(token.bytes().all(|b| b.is_ascii_graphic() && b != b','));
            assert_eq!(bearer(format!("\tbEARER   {token} ").as_bytes()), Some(token));
            assert_eq!(bearer(token.as_bytes()), None, "nothing is peeled twice");
        }
    }
    let token = presented(&headers(list.iter()));
    assert_eq!(token, presented(&headers(list.iter().rev())), "in whatever order they come");
    let doubled = presented(&headers(list.iter().chain(&list)));
    assert_eq!(token, doubled, "or how often");
    assert!(token.is_none_or(|token| list.iter().any(|(_, value)| value.contains(&token))));

    let digit = |byte: &u8| char::from(b"0123456789/:,.-+"[usize::from(byte % 16)]);
    let digits: String = bytes.iter().map(digit).collect();
    if let Ok(cursor) = Cursor::parse(&format!("1/{digits}")) {
        assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor));
    }
    if let Ok(snapshot) = Snapshot::parse(&digits) {
        let mut numbers = digits.split([':', ',']).map_while(|number| number.parse::<u64>().ok());
        let (xmin, xmax) = (numbers.next().expect("xmin"), numbers.next().expect("xmax"));
        assert!(snapshot.xmin == xmin && numbers.is_sorted() && xmin <= xmax);
    }

    let namespace = String::from_utf8_lossy(&bytes[..bytes.len().min(170)]);
    let notice = Notice { method: "update", namespace: Some(&namespace), ..Notice::default() };
    let read: Value = serde_json::from_str(&notice.to_json()).expect("JSON");
    assert!(read["namespace"] == *namespace && notice.to_json().len() < 8000);
});
