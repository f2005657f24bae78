//! Templates, good and bad: each is given small conversations, and texts or errors are what they must be.

use super::*;
use crate::engine::{EncodeOptions, Pattern, Scratch, Special, SpecialPolicy, TokenizerParts};
use std::time::{Duration, Instant};

fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

fn list(text: &str) -> Vec<Json> {
    serde_json::from_str(text).unwrap()
}

fn parts(messages: &str) -> ChatParts {
    ChatParts { messages: list(messages), ..ChatParts::default() }
}

const HELLO: &str = r#"[{"role": "user", "content": "Hi"}]"#;

fn templates(source: &str) -> ChatTemplates {
    ChatTemplates {
        sources: [("default".to_owned(), source.to_owned())].into(),
        tokens: [("bos_token".to_owned(), "<s>".to_owned())].into(),
    }
}

fn render_parts(source: &str, parts: ChatParts) -> Result<String, ChatError> {
    let chat = Chat::new(parts)?;
    render(&templates(source), Wanted::Usual, &chat, None).map(|rendered| rendered.text)
}

#[track_caller]
fn check(source: &str, expect: &str) {
    assert_eq!(render_parts(source, parts(HELLO)).as_deref(), Ok(expect), "{source}");
}

/// The template ends in an error of this kind, soon.
#[track_caller]
fn check_stopped(source: &str, expect: fn(&ChatError) -> bool) {
    let start = Instant::now();
    let error = render_parts(source, parts(HELLO)).unwrap_err();
    assert!(expect(&error), "{}: {error:?}", &source[..source.len().min(100)]);
    // Half a second where it is optimised.
    assert!(start.elapsed() < Duration::from_secs(60), "{source} took {:?}", start.elapsed());
}

fn too_costly(error: &ChatError) -> bool {
    matches!(error, ChatError::TooCostly)
}

fn failed(error: &ChatError) -> bool {
    matches!(error, ChatError::Failed { .. })
}

fn too_large(error: &ChatError) -> bool {
    matches!(error, ChatError::SourceTooLarge { .. })
}

fn syntax(error: &ChatError) -> bool {
    matches!(error, ChatError::Syntax { .. })
}

#[test]
fn what_never_ends_is_stopped() {
    let nested = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    check_stopped(nested, too_costly);
    check_stopped(
        &format!("{}x{}", "{% for a in range(9) %}".repeat(60), "{% endfor %}".repeat(60)),
        too_costly,
    );
    check_stopped("{% for i in range(1000000000000) %}{% endfor %}", too_costly);
    check_stopped("{% for i in range(10**10) %}{% endfor %}", too_costly);
    check_stopped("{% for i in range(100000) %}{{ 'x' * 10000 }}{% endfor %}", |e| {
        too_costly(e) || *e == ChatError::OutputTooLarge
    });
}

#[test]
fn what_grows_without_end_is_stopped() {
    check_stopped("{{ '-' * 1e10 }}", too_costly);
    check_stopped("{{ ('-' * 10000000000) | length }}", too_costly);
    check_stopped(
        "{{ ('-' * 99999999) | length }}{{ ('-' * 99999999) | length }}{{ ('-' * 99999999) | length }}",
        too_costly,
    );
    check_stopped(
        "{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        too_costly,
    );
    check_stopped(
        "{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = ns.s.join([ns.s, ns.s, 'x']) %}{% endfor %}",
        too_costly,
    );
    check_stopped(
        "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        too_costly,
    );
    check_stopped(
        "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}",
        too_costly,
    );
    check_stopped("{% set x = range(100000) | list %}{{ 'a' ~ (x * 1000) }}", failed);
    check_stopped("{{ 2 * [1] }}", failed);
    check_stopped("{{ ('a' * 60000000).split('a') | length }}", too_costly);
    check_stopped("{{ ('a' * 20000000) | list | length }}", too_costly);
    check_stopped("{{ ('a' * 60000000).replace('a', 'bbbbbbbb') | length }}", too_costly);
    check_stopped("{% set s = 'a' * 20000000 %}{{ ([s, s, s, s, s, s] ~ 'x') | length }}", too_costly);
    check_stopped("{% set s = 'a' * 60000000 %}{{ [s, s, s, s, s, s] in 'x' }}", too_costly);
    check_stopped("{% set s = 'a' * 20000000 %}{{ [s, s, s, s, s, s] | upper | length }}", too_costly);
    check_stopped("{{ 'x'.center(10000000000) }}{{ 'x'.zfill(999999999999) }}", too_costly);
    check_stopped("{{ '%1000000000d' | format(1) | length }}", too_costly);
    check_stopped("{{ [1] | tojson(indent=1000000000) }}", failed);
}

/// Lists inside of lists recurse when they are dropped, and circles never end when they are printed: both would end the
/// process.
#[test]
fn what_nests_without_end_is_stopped() {
    let deep = |step: &str| {
        format!(
            "{{% set ns = namespace(x=[]) %}}{{% for i in range(99999) %}}{{% set ns.x = {step} %}}{{% endfor %}}"
        )
    };
    for step in ["[ns.x]", "(ns.x,)", "{'a': ns.x}", "dict(a=ns.x).items()", "[ns.x] | batch(1)"] {
        check_stopped(&deep(step), too_costly);
    }
    check(&(deep("ns.x[0:]") + "{{ ns.x }}"), "[]");
    check_stopped(&format!("{{% set x = [] %}}{}", "{% set x = [x] %}".repeat(9000)), too_costly);
    check_stopped("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}", too_costly);
    check_stopped("{% set ns = namespace() %}{% set ns.a = [ns] %}{{ 'x' ~ ns }}", too_costly);
    check_stopped(
        "{% set ns = namespace() %}{% set x = {'n': ns} %}{% set ns.a = x %}{{ ns == x }}",
        too_costly,
    );
    check_stopped("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", too_costly);
    check_stopped("{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f(0) }}", too_costly);
    check_stopped(
        "{% macro f() %}{{ caller() }}{% call f() %}{% endcall %}{% endmacro %}{% call f() %}{% endcall %}",
        too_costly,
    );
    check_stopped("{% for a in [[]] recursive %}{{ loop([a]) }}{% endfor %}", too_costly);
    check_stopped(
        "{% set ns = namespace(x=[]) %}{% macro f() %}{% set ns.x = [ns.x] %}{{ f() }}{% endmacro %}{{ f() }}",
        too_costly,
    );
}

/// The parser and the compiler recurse over the source.
#[test]
fn sources_that_are_too_long_or_nested_are_refused() {
    for (before, each, after) in [
        ("{{ 1", "+a", " }}"),
        ("{{ a", "|trim", " }}"),
        ("{{ a", ".b", " }}"),
        ("{{ a", "[0]", " }}"),
        ("{{ a", "()", " }}"),
        ("{{ ", "not ", "a }}"),
        ("{{ ", "-", "1 }}"),
        ("{{ ", "a if b else ", "1 }}"),
        ("{{ a", " is defined", " }}"),
        ("{{ 2", "**2", " }}"),
        ("{{ ", "(", "1"),
        ("{{ ", "range(", "1"),
        ("{% set a", ".b", " = 1 %}"),
        ("{% if a %}", "{% elif b %}", "{% endif %}"),
        ("", "{% if a %}", ""),
        ("", "{% for a in b %}", ""),
        ("", "{% set a %}", ""),
    ] {
        check_stopped(&format!("{before}{}{after}", each.repeat(5000)), too_large);
    }
    check_stopped(&"x".repeat(MAX_TEMPLATE_BYTES + 1), too_large);
    // The most that is allowed compiles and runs.
    let expect = "a".repeat(131);
    check(&format!("{{{{ 'a'{} }}}}", " ~ ('a')".repeat(80)), &expect[..81]);
    check(&format!("{{{{ {}1{} }}}}", "(".repeat(MAX_BRACKETS), ")".repeat(MAX_BRACKETS)), "1");
    check(&format!("{{{{ {}1{} }}}}", "[] | default(".repeat(MAX_BRACKETS), ")".repeat(MAX_BRACKETS)), "[]");
    check(&format!("{{{{ 1{} }}}}", "|int".repeat(190)), "1");
    check(&format!("{{{{ {}1 }}}}", "not ".repeat(398)), "True");
    check(&format!("{{% if x %}}{}{{% else %}}z{{% endif %}}", "{% elif x %}".repeat(MAX_ELIFS)), "z");
    check(&format!("{}x{}", "{% if 1 %}".repeat(MAX_NESTING), "{% endif %}".repeat(MAX_NESTING)), "x");
}

#[test]
fn no_template_reads_files_or_other_templates() {
    for source in [
        "{% include '/etc/passwd' %}",
        "{% include 'default' %}",
        "{% import '/etc/passwd' as x %}",
        "{% from '/etc/passwd' import x %}",
        "{% extends '/etc/passwd' %}",
    ] {
        check_stopped(source, syntax);
    }
    check_stopped("{{ open('/etc/passwd') }}", failed);
    check_stopped("{{ ''.__class__.__mro__ }}", failed);
    check_stopped("{{ debug() }}", failed);
    check_stopped("{{ messages.append(1) }}", failed);
    check_stopped("{{ messages[0].update({'a': 1}) }}", failed);
}

#[test]
fn the_kind_and_the_line_of_an_error_are_told_and_no_value_is() {
    let error = |source: &str| {
        let messages = r#"[{"role": "user", "content": "SECRET"}]"#;
        let error = render_parts(source, parts(messages)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
        error
    };
    assert_eq!(error("a\n{% if %}"), ChatError::Syntax { line: 2 });
    assert_eq!(error("{% endfor %}"), ChatError::Syntax { line: 1 });
    let ChatError::Failed { line: 2, reason } = error("\n{{ messages[0].content | nope }}") else { panic!() };
    assert_eq!(reason, "unknown filter: filter nope is unknown");
    let ChatError::Failed { line: 1, reason } = error("{{ messages[0].content + 1 }}") else { panic!() };
    assert_eq!(reason, "invalid operation: tried to use + operator on unsupported types string and number");
    let ChatError::Failed { line: 3, .. } = error("\n\n{{ messages[0].content % 2 }}") else { panic!() };
    let raised = |source: &str| match error(source) {
        ChatError::Raised { message } => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(raised("{{ raise_exception('Only users!') }}"), "Only users!");
    assert_eq!(raised("{{ raise_exception('Unknown: ' + messages[0].content) }}"), "Unknown: ...");
    assert_eq!(
        raised("{% macro f() %}{{ raise_exception('in a macro') }}{% endmacro %}{{ f() }}"),
        "in a macro"
    );
    assert_eq!(raised("{{ raise_exception(messages) }}"), "...");
    let chat = Chat::new(parts(HELLO)).unwrap();
    let brought = Wanted::Source("{{ raise_exception('brought') }}");
    let error = render(&templates(""), brought, &chat, None).unwrap_err();
    assert_eq!(error, ChatError::Raised { message: "...".into() });
}

#[test]
fn tojson_writes_what_json_dumps_writes() {
    let tool = r#"{"z": "天气 \u0001\u007f\u2028 <b> & ' \" \\ \n", "a": [1, 1.0, 1e16, 1e-7, -0.5, true, null, [], {}], "😀": {"k": 1}}"#;
    let check = |filter: &str, expect: &str| {
        let given = ChatParts { tools: Some(list(&format!("[{tool}]"))), ..parts(HELLO) };
        let text = render_parts(&format!("{{{{ tools[0] | {filter} }}}}"), given);
        assert_eq!(text.as_deref(), Ok(expect), "{filter}");
    };
    let z = "天气 \\u0001\u{7f}\u{2028} <b> & ' \\\" \\\\ \\n";
    let a = "[1, 1.0, 1e+16, 1e-07, -0.5, true, null, [], {}]";
    check("tojson", &format!("{{\"z\": \"{z}\", \"a\": {a}, \"😀\": {{\"k\": 1}}}}"));
    check("tojson(sort_keys=true)", &format!("{{\"a\": {a}, \"z\": \"{z}\", \"😀\": {{\"k\": 1}}}}"));
    let escaped = "\\u5929\\u6c14 \\u0001\\u007f\\u2028 <b> & ' \\\" \\\\ \\n";
    check(
        "tojson(ensure_ascii=true)",
        &format!("{{\"z\": \"{escaped}\", \"a\": {a}, \"\\ud83d\\ude00\": {{\"k\": 1}}}}"),
    );
    check(
        "tojson(separators=(',', ':'))",
        &format!("{{\"z\":\"{z}\",\"a\":{},\"😀\":{{\"k\":1}}}}", a.replace(", ", ",")),
    );
    let items = a.trim_matches(['[', ']']).replace(", [], {}", "").replace(", ", ",\n    ");
    // The inner brackets of the empty ones are cut off with the outer ones.
    let items = items.trim_end_matches([',', ' ', '{', '}', '[', ']', '\n']);
    let indented = format!(
        "{{\n  \"z\": \"{z}\",\n  \"a\": [\n    {items},\n    [],\n    {{}}\n  ],\n  \"😀\": {{\n    \"k\": 1\n  }}\n}}"
    );
    check("tojson(indent=2)", &indented);
}

#[test]
fn values_are_written_as_python_writes_them() {
    check(
        "{{ none }}{{ true }}{{ 1.0 }}{{ 1e16 }}{{ 0.00001 }}{{ 1e15 }}",
        "NoneTrue1.01e+161e-051000000000000000.0",
    );
    check("{{ messages }}", "[{'role': 'user', 'content': 'Hi'}]");
    check("{{ ['it\\'s', 'a\"', '\\u200b\\n', 'é'] }}", r#"["it's", 'a"', '\u200b\n', 'é']"#);
    check("{{ (1,) }}{{ (1, 'a') }}{{ () }}{{ {1: none} }}", "(1,)(1, 'a')(){1: None}");
    check(
        "{{ 'a' ~ none ~ 1.5 ~ messages[0] ~ [1e-7] }}",
        "aNone1.5{'role': 'user', 'content': 'Hi'}[1e-07]",
    );
    check(
        "{{ [none, 1e-7] | join('|') }}{{ [1e16] | string }}{{ [true] | upper }}",
        "None|1e-07[1e+16][TRUE]",
    );
}

#[test]
fn methods_are_those_of_python() {
    check(
        "{{ ' a\\x1cb \\x1f'.strip() }}{{ 'xxaxx'.lstrip('x') }}{{ 'xxaxx'.rstrip('x') }}",
        "a\u{1c}baxxxxa",
    );
    check(
        "{{ ' a  b c '.split() }}{{ 'a,b,,c'.split(',') }}{{ ''.split(',') }}{{ ''.split() }}",
        "['a', 'b', 'c']['a', 'b', '', 'c'][''][]",
    );
    check("{{ ' a b c '.split(none, 1) }}{{ ' a b c '.rsplit(none, 1) }}", "['a', 'b c '][' a b', 'c']");
    check(
        "{{ 'a-b-c'.split('-', 1) }}{{ 'a-b-c'.rsplit('-', 1) }}{{ 'a-b-c'.split('-', maxsplit=1)[-1] }}",
        "['a', 'b-c']['a-b', 'c']b-c",
    );
    check(
        "{{ 'a\\r\\nb\\x0bc\\n'.splitlines() }}{{ 'a\\r\\nb'.splitlines(true) }}",
        "['a', 'b', 'c']['a\\r\\n', 'b']",
    );
    check("{{ '</think>x</think>y'.split('</think>')[-1].lstrip('\\n') }}", "y");
    check("{{ 'a=b=c'.partition('=') }}{{ 'abc'.rpartition('=') }}", "('a', '=', 'b=c')('', '', 'abc')");
    check("{{ 'ab'.removeprefix('a') }}{{ 'ab'.removesuffix('b') }}{{ 'ab'.removesuffix('x') }}", "baab");
    check("{{ \"they're ßx ǆ\".title() }}{{ 'ÀB'.capitalize() }}{{ 'aB'.swapcase() }}", "They'Re Ssx ǅÀbAb");
    check(
        "{{ 'ab'.center(5, '*') }}{{ 'ab'.ljust(4) }}|{{ 'ab'.rjust(4) }}{{ '-1'.zfill(4) }}",
        "**ab*ab  |  ab-001",
    );
    check(
        "{{ 'abab'.find('b') }}{{ 'abab'.rfind('b') }}{{ 'abab'.index('b') }}{{ 'abab'.count('ab') }}",
        "1312",
    );
    check("{{ '-'.join(['a', 'b']) }}{{ 'a'.startswith(('x', 'a')) }}{{ '{}'.format(1) }}", "a-bTrue1");
    check_stopped("{{ '-'.join([1]) }}", failed);
    check_stopped("{{ 'a'.split('') }}", failed);
    check("{{ messages[0].get('none', 'd') }}{{ messages[0].keys() | list }}", "d['role', 'content']");
    // A key of that name does not hide the method.
    check("{{ {'items': 1}.items() | list }}", "[('items', 1)]");
}

#[test]
fn tags_of_transformers_are_known() {
    check("{% generation %}{% set x = 1 %}a{{ x }}{% endgeneration %}{{ x is defined }}", "a1False");
    check("x\n  {%- generation -%}\n a \n{%- endgeneration +%}\ny", "xa\ny");
    check(
        "{% raw %}{% generation %}{% endraw %}{{ '{% generation %}' }}{# {% generation %} #}",
        "{% generation %}{% generation %}",
    );
    check(
        "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
        "013",
    );
    let today = |format: &str| jiff::ZonedDateTime::now().strftime(format).to_string();
    check("{{ strftime_now('%d %b %Y, %A') }}", &today("%d %b %Y, %A"));
    check_stopped("{{ strftime_now('%') }}", failed);
    check_stopped(&format!("{{{{ strftime_now('{}') }}}}", "%Y".repeat(999)), failed);
}

#[test]
fn what_is_changed_in_a_source_cannot_be_told() {
    check("{% set a, b = 1, [2] %}{{ a }}{{ b }}{% set s %}x{{ a }}{% endset %}{{ s }}", "1[2]x1");
    check("{% set x = 1 if messages else 2 -%}\n {{ x }}{% set y = x == 1 %}{{ y }}", "1True");
    check("{% set ns = namespace(a=1) %}{% set ns.a = ns.a + 2 %}{{ ns.a }}{% set t = ns %}{{ t.a }}", "33");
    check(
        "{{ 1 ~ 2 * 3 }}|{{ 2 * 3 ~ 'a' }}|{{ '=' * 3 }}|{{ 3 * '=' ~ 'x' }}|{{ -2 * 3 }}|{{ loop is defined }}",
        "16|6a|===|===x|-6|False",
    );
    check(
        "{{ messages[0].role in ['user'] and 'x' not in messages[0].content }}{{ not 'a' in 'b' }}",
        "TrueTrue",
    );
    check("{% for k, v in {'in': 1}.items() if k in 'inn' %}{{ k ~ v }}{% endfor %}", "in1");
    check(
        "{{ 'a' ~ 'b' if true else 'c' }}{{ ('a' ~ 'b') | upper ~ 'c' }}{{ 'a' ~ ['b'][0] ~ {'c': 1}['c'] }}",
        "abABcab1",
    );
    check("{% set x %}a{% endset %}{% filter replace('a=', 'b') %}a={{ x }}{% endfilter %}", "ba");
    check("{% macro f(a, b=2) %}{{ a ~ b }}{% endmacro %}{{ f(1, b=3) ~ f('x') }}", "13x2");
}

#[test]
fn messages_are_given_as_transformers_gives_them() {
    let see = |template: &str, messages: &str| render_parts(template, parts(messages)).unwrap();
    // No value is no key; and what is unknown is passed on.
    let messages = r#"[{"role": "user", "content": null, "odd": {"b": 1, "a": [2]}}]"#;
    assert_eq!(see("{{ messages | tojson }}", messages), r#"[{"role": "user", "odd": {"b": 1, "a": [2]}}]"#);
    let messages = r#"[{"role": "assistant", "content": "c", "reasoning": "r"}]"#;
    assert_eq!(see("{{ messages[0].reasoning_content ~ messages[0].thinking }}", messages), "rr");
    let given = ChatParts {
        variables: json(r#"{"enable_thinking": false, "bos_token": "<B>"}"#),
        add_generation_prompt: true,
        ..parts(HELLO)
    };
    let template = "{{ enable_thinking }}{{ bos_token }}{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}";
    assert_eq!(render_parts(template, given).unwrap(), "False<B>TrueTrueTrue");
    check("{{ bos_token }}{{ eos_token is defined }}", "<s>False");
}

#[test]
fn fields_that_are_not_what_they_must_be_are_named() {
    let refused = |parts: ChatParts| match Chat::new(parts).unwrap_err() {
        ChatError::Invalid { pointer, .. } => pointer,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(parts("[]")), "/messages");
    assert_eq!(refused(parts(r#"[{"role": "user"}, "text"]"#)), "/messages/1");
    assert_eq!(refused(parts(r#"[{"role": "user", "content": 5}]"#)), "/messages/0/content");
    assert_eq!(refused(parts(r#"[{"content": ["a", 1]}]"#)), "/messages/0/content/1");
    assert_eq!(refused(ChatParts { tools: Some(list("[{}, 1]")), ..parts(HELLO) }), "/tools/1");
    assert_eq!(refused(ChatParts { documents: Some(list("[null]")), ..parts(HELLO) }), "/documents/0");
    for name in ["messages", "tools", "documents", "add_generation_prompt"] {
        let given = ChatParts { variables: json(&format!("{{\"{name}\": 1}}")), ..parts(HELLO) };
        assert_eq!(refused(given), format!("/chat_template_kwargs/{name}"));
    }
}

#[test]
fn what_is_no_text_is_never_counted() {
    let check = |part: &str, kind: &'static str| {
        let messages = format!(r#"[{{"role": "user"}}, {{"role": "user", "content": ["a", {part}]}}]"#);
        let pointer = "/messages/1/content/1".to_owned();
        assert_eq!(
            Chat::new(parts(&messages)).unwrap_err(),
            ChatError::NotCountable { pointer, kind },
            "{part}"
        );
    };
    check(r#"{"type": "image"}"#, "image");
    check(r#"{"type": "image_url", "image_url": {"url": "data:"}}"#, "image");
    check(r#"{"type": "input_image"}"#, "image");
    check(r#"{"type": "input_audio", "input_audio": {}}"#, "audio");
    check(r#"{"type": "video"}"#, "video");
    check(r#"{"type": "file", "file": {}}"#, "file");
    check(r#"{"type": "document", "source": {}}"#, "file");
    check(r#"{"image": "path"}"#, "image");
    check(r#"{"type": "text", "text": "a", "video": "x"}"#, "video");
    let nested = r#"[{"content": [{"type": "tool_result", "content": [{"type": "image"}]}]}]"#;
    let pointer = "/messages/0/content/0/content/0".to_owned();
    assert_eq!(Chat::new(parts(nested)).unwrap_err(), ChatError::NotCountable { pointer, kind: "image" });
    let text = r#"[{"content": [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": "b"}, {"text": "c"}]}]"#;
    assert!(Chat::new(parts(text)).is_ok());
}

#[test]
fn a_final_message_is_continued_where_it_ends() {
    let go_on = |template: &str, messages: &str| {
        render_parts(template, ChatParts { continue_final_message: true, ..parts(messages) })
    };
    let template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}";
    let trimmed = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }} </>{% endfor %}";
    let say =
        |text: &str| format!(r#"[{{"role": "u", "content": "q"}}, {{"role": "a", "content": "{text}"}}]"#);
    assert_eq!(go_on(template, &say("so ")).unwrap(), "<u>q</><a>so ");
    assert_eq!(go_on(trimmed, &say("so ")).unwrap(), "<u>q </><a>so ");
    assert_eq!(go_on(&trimmed.replace(" </>", "</>"), &say("so ")).unwrap(), "<u>q</><a>so");
    let in_parts = r#"[{"role": "a", "content": [{"text": "x"}, {"text": "y"}, {"type": "other"}]}]"#;
    let each = "{% for m in messages %}{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endfor %}";
    assert_eq!(go_on(each, in_parts).unwrap(), "[x][y");
    let refused = |outcome| assert!(matches!(outcome, Err(ChatError::NotContinuable { .. })), "{outcome:?}");
    refused(go_on(template, r#"[{"role": "a"}]"#));
    refused(go_on(each, r#"[{"content": [{"type": "other"}]}]"#));
    refused(go_on("{{ messages[0]['con' ~ 'tent'] }}", &say("a")));
    refused(go_on("{{ messages[0].content }}", &say("a")));
    let both = ChatParts { continue_final_message: true, add_generation_prompt: true, ..parts(HELLO) };
    assert!(
        matches!(Chat::new(both), Err(ChatError::Invalid { pointer, .. }) if pointer == "/continue_final_message")
    );
}

#[test]
fn templates_are_chosen_as_transformers_chooses() {
    let sources = |names: &[&str]| ChatTemplates {
        sources: names.iter().map(|name| ((*name).to_owned(), format!("{name}!"))).collect(),
        ..ChatTemplates::default()
    };
    let with = |names: &[&str], wanted, tools: Option<&str>| {
        let chat = Chat::new(ChatParts { tools: tools.map(list), ..parts(HELLO) }).unwrap();
        render(&sources(names), wanted, &chat, None).map(|rendered| rendered.text)
    };
    let both = ["default", "rag", "tool_use"];
    assert_eq!(with(&both, Wanted::Usual, None).unwrap(), "default!");
    assert_eq!(with(&both, Wanted::Usual, Some("[]")).unwrap(), "tool_use!");
    assert_eq!(with(&["default"], Wanted::Usual, Some("[]")).unwrap(), "default!");
    assert_eq!(with(&both, Wanted::Named("rag"), Some("[]")).unwrap(), "rag!");
    assert_eq!(with(&[], Wanted::Source("brought"), None).unwrap(), "brought");
    assert_eq!(with(&[], Wanted::Usual, None).unwrap_err(), ChatError::NoTemplate);
    let known = vec!["rag".to_owned()];
    assert_eq!(
        with(&["rag"], Wanted::Usual, None).unwrap_err(),
        ChatError::UnknownTemplate { known: known.clone() }
    );
    assert_eq!(with(&["rag"], Wanted::Named("x"), None).unwrap_err(), ChatError::UnknownTemplate { known });
}

/// Bytes, `<|end|>` and `</think>` flagged special, and `<tool>` added without the flag.
fn tokenizer() -> Tokenizer {
    let special = Special::new;
    Tokenizer::new(TokenizerParts {
        specials: vec![
            special("<|end|>", 300, true),
            special("</think>", 301, true),
            special("<tool>", 302, false),
        ],
        chat: ChatTemplates::default(),
        ..TokenizerParts::byte_level(
            (0..=255).map(|byte| (u32::from(byte), vec![byte])).collect(),
            Vec::new(),
            Pattern::parse("cl100k").unwrap(),
        )
    })
    .unwrap()
}

/// The text, and the special tokens that are found in it: the template's own ones.
#[track_caller]
fn check_plain(template: &str, content: &str, text: &str, specials: &[u32]) {
    let tokenizer = tokenizer();
    let messages = vec![Json::from_pairs([("role", Json::from("user")), ("content", content.into())])];
    let chat = Chat::new(ChatParts { messages, ..ChatParts::default() }).unwrap();
    let rendered = render(&templates(template), Wanted::Usual, &chat, Some(&tokenizer)).unwrap();
    let policy = SpecialPolicy { others: crate::engine::OnSpecial::Parse, ..SpecialPolicy::default() };
    let matcher = tokenizer.matcher(&policy).unwrap().sparing(&rendered.plain);
    let options = EncodeOptions::default();
    let encoding =
        tokenizer.encode_matched(&rendered.text, &matcher, &options, &mut Scratch::default()).unwrap();
    let found: Vec<u32> = encoding.ids.iter().copied().filter(|id| *id >= 300).collect();
    assert_eq!((rendered.text.as_str(), &found[..]), (text, specials), "{template}");
    assert_eq!(tokenizer.decode_bytes(&encoding.ids, false).unwrap(), text.as_bytes());
}

#[test]
fn names_of_special_tokens_in_messages_stay_text() {
    let plain = "{{ messages[0].content }}<|end|>";
    check_plain(plain, "hi", "hi<|end|>", &[300]);
    check_plain(plain, "<|end|>hi<|end|>", "<|end|>hi<|end|><|end|>", &[300]);
    check_plain(plain, "a<tool>b</think>", "a<tool>b</think><|end|>", &[302, 300]);
    // Marks of somebody else's are text, too.
    check_plain(plain, "\u{fdd0}<|end|>\u{fdd1}\u{fdd2}", "\u{fdd0}<|end|>\u{fdd1}\u{fdd2}<|end|>", &[300]);
    check_plain("{{ messages[0].content | trim }}<|end|>", " <|end|> ", "<|end|><|end|>", &[300]);
    check_plain(
        "{{ messages | tojson(ensure_ascii=true) }}<|end|>",
        "<|end|>é",
        "[{\"role\": \"user\", \"content\": \"<|end|>\\u00e9\"}]<|end|>",
        &[300],
    );
    check_plain(
        "{{ messages }}<|end|>",
        "<|end|>",
        "[{'role': 'user', 'content': '<|end|>'}]<|end|>",
        &[300],
    );
    check_plain("{{ messages[0].content | upper }}", "<|end|>", "<|END|>", &[]);
    // A template that cuts at a name still finds it, and what it writes itself is its own.
    let cut = "{{ messages[0].content.split('</think>')[-1] }}</think>{{ '<|end|>' in messages[0].content }}";
    check_plain(cut, "hm</think>yes", "yes</think>False", &[301]);
    check_plain(cut, "hm</think>yes<|end|>", "yes<|end|></think>True", &[301]);
    // What is put together from a piece and the template's text is no token either.
    check_plain("{{ messages[0].content[:-2] }}>", "<|end|>", "<|end|>", &[]);
    check_plain(
        "{{ messages[0].content[:-1] }}|{{ messages[0].content[1:] }}",
        "<|end|>",
        "<|end|>|<|end|>",
        &[],
    );
    // The template's own names beside a mark that is left of another one stay tokens.
    check_plain(
        "<|end|>{{ messages[0].content.split('</think>')[-1] }}",
        "hm</think>yes",
        "<|end|>yes",
        &[300],
    );
}

#[test]
fn names_in_tools_documents_and_variables_stay_text() {
    let tokenizer = tokenizer();
    let chat = Chat::new(ChatParts {
        tools: Some(list(r#"[{"<|end|>": ["<|end|>"]}]"#)),
        documents: Some(list(r#"[{"text": "<|end|>"}]"#)),
        variables: json(r#"{"extra": "<|end|>"}"#),
        ..parts(HELLO)
    })
    .unwrap();
    let template = "{{ tools | tojson }}{{ documents[0].text }}{{ extra }}<|end|>";
    let rendered = render(&templates(template), Wanted::Usual, &chat, Some(&tokenizer)).unwrap();
    assert_eq!(rendered.text, "[{\"<|end|>\": [\"<|end|>\"]}]<|end|><|end|><|end|>");
    assert_eq!(rendered.plain, [3..10, 15..22, 26..33, 33..40]);
}

/// What is not compiled anew for each request would have to be kept somewhere; this says that it need not be.
#[test]
fn compiling_a_published_template_is_cheap() {
    let source = include_str!("../../tests/data/chat/qwen2.5.jinja");
    let start = Instant::now();
    for _ in 0..10 {
        render_parts(source, parts(HELLO)).unwrap();
    }
    // Well under a millisecond each where it is optimised.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn templates_that_read_parts_are_told_by_their_loops() {
    let check = |source: &str, expect: bool| assert_eq!(reads_parts(source), expect, "{source}");
    check("{% for m in messages %}{{ m.content }}{% endfor %}", false);
    check("{%- for part in message['content'] -%}{{ part.text }}{% endfor %}", true);
    check("{% for item in content %}", true);
    check("{{ 'for x in content' }}", false);
}
