#!/usr/bin/env python3
"""Chat templates against transformers: writes cases with what apply_chat_template makes of them, and runs the test that
renders them again.

    tests/cross/chat.py CONFIG_DIR... [--cases N] [--seed N] [--out FILE] [--no-test]

Each CONFIG_DIR holds NAME.tokenizer_config.json files. Needs transformers, tokenizers and jinja2; no network. The time of
strftime_now is the day, so a run over midnight may differ. Cases that transformers refuses must be refused as well.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

NAMES = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"]

# Small templates, each for a part of Jinja2 or of Python that published templates use.
SMALL = {
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{% set q = m.content %}{{ q }}"
    "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ q is defined }}{% endfor %}",
    "tojson": "{{ messages | tojson }}|{{ messages | tojson(indent=2) }}|{{ tools | tojson(ensure_ascii=True) }}|"
    "{{ tools | tojson(separators=(',', ':'), sort_keys=true) }}|{{ tools | tojson(indent=4, separators=(', ', ' : ')) }}",
    "python": "{{ messages }}|{{ tools }}|{{ documents }}|{{ 'a' ~ messages[0] ~ none ~ true ~ 1.5 }}|{{ (1, 'x') }}{{ (1,) }}|"
    "{{ [1.0, 1e16, 1e-7, 123456789.123, 1e22, 0.1, -0.0] }}|{{ 7 // 2 }}{{ -7 // 2 }}{{ 7 % -3 }}{{ 2 ** 10 }}{{ 7 / 2 }}",
    "methods": "{% for m in messages %}{% set c = m.content if m.content is string else '' %}{{ c.strip() }}|"
    "{{ c.lstrip('\\n <') }}|{{ c.rstrip() }}|"
    "{{ c.split() }}|{{ c.split('\\n') }}|{{ c.split(' ', 1) }}|{{ c.rsplit(' ', 1) }}|{{ c.split(none, 1) }}|{{ c.splitlines() }}|"
    "{{ c.title() }}|{{ c.upper() }}|{{ c.lower() }}|{{ c.capitalize() }}|{{ c.startswith('Wh') }}{{ c.endswith(('?', '!')) }}|"
    "{{ c.replace('a', 'bb') }}|{{ c.find('a') }}|{{ c.rfind('a') }}|{{ c.count('a') }}|{{ c.partition('a') }}|{{ c.rpartition(' ') }}|"
    "{{ c.removeprefix('What') }}|{{ c.removesuffix('?') }}|{{ c.center(9, '*') }}|{{ c.ljust(8) }}|{{ c.rjust(8) }}|{{ c.zfill(8) }}|"
    "{{ c.isdigit() }}{{ c.isalpha() }}{{ c.isspace() }}{{ c.isupper() }}{{ c.islower() }}|{{ ', '.join(c.split()) }}|{{ c[:3] }}{{ c[-2:] }}"
    "{{ c[::-1] }}|{{ c | trim }}|{{ c | length }}|{{ c | upper }}|{{ c | title }}|{{ c | capitalize }}|{{ c | replace('a', 'b') }}|"
    "{{ c | indent(2) }}|{{ c | indent(2, first=true) }}|{{ '%s-%d' | format(c, 3) }}|{{ '{} {}'.format(c, 1) }}|{{ c in 'What is' }}{{ 'a' in c }}\n{% endfor %}",
    "lists": "{{ messages | map(attribute='role') | list }}|{{ messages | selectattr('role', 'equalto', 'user') | list | length }}|"
    "{{ messages | rejectattr('role', 'in', ['user', 'system']) | map(attribute='role') | join(', ') }}|{{ messages[1:] | length }}|"
    "{{ messages[-1].role }}|{{ (messages | first).role }}|{{ (messages | last).role }}|{{ messages | map(attribute='role') | unique | list }}|"
    "{{ messages | map(attribute='role') | sort | join('-') }}|{{ range(3) | list }}|{{ [3, 1, 2] | sort(reverse=true) }}|{{ [1, 2] + [3] }}|"
    "{% for m in messages %}{{ loop.index }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.cycle('a', 'b') }}"
    "{% if not loop.last %}, {% endif %}{% if loop.index0 == 2 %}{% break %}{% endif %}{% endfor %}|"
    "{% for m in messages if m.role == 'user' %}{{ loop.index }}{% else %}none{% endfor %}|{{ messages[0].keys() | list }}|"
    "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}{{ messages[0] | dictsort }}|{{ messages[0].get('x', 'y') }}|"
    "{{ messages[0] | length }}{{ [1, 2, 3] | sum }}{{ [1, 2] | max }}|{{ [[1, 2], [3]] | map('length') | list }}|{{ [0, 1] | select | list }}",
    "more": "{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined }}<{{ loop.nextitem.role if loop.nextitem is defined }}"
    "{{ loop.changed(m.role) }}{{ loop.index0 }}{{ loop.revindex0 }}{% endfor %}|{% for g in messages | groupby('role') %}{{ g.grouper }}{{ g.list | length }};{% endfor %}|"
    "{% for b in [1, 2, 3, 4, 5] | batch(2, 'x') %}{{ b }}{% endfor %}{% for b in [1, 2, 3, 4, 5] | slice(2) %}{{ b }}{% endfor %}|"
    "{{ messages | map(attribute='role') | map('upper') | list }}{{ messages | map(attribute='nope', default='d') | list }}"
    "{{ messages | selectattr('tool_calls', 'defined') | list | length }}{{ messages | selectattr('content') | list | length }}"
    "{{ messages | map(attribute='content') | select('string') | list | length }}{{ ['a', 1, none] | reject('none') | list }}"
    "{{ '3' | int + 1 }}{{ 'x' | int }}{{ 'x' | int(7) }}{{ '2.5' | float }}{{ 2.567 | round(2) }}{{ 2.5 | round }}{{ 3.2 | round(0, 'ceil') }}{{ -3 | abs }}"
    "{{ 'abcdef'[1:4] }}{{ 'abcdef'[::2] }}{{ 'abcdef'[-3:-1] }}{{ [1, 2, 3][::-1] }}{{ [1, 2, 3][:2] }}{{ 'héllo'[1] }}{{ 'abc'[9:] }}"
    "{{ ['b', 'A', 'c'] | sort }}{{ ['b', 'A', 'c'] | sort(case_sensitive=true) }}{{ messages | sort(attribute='role') | map(attribute='role') | list }}"
    "{{ [1, 1, 2] | unique | list }}{{ 'ab' | list }}{{ 'ab' | reverse }}{{ [1, 2] | reverse | list }}{{ [3, 1] | min }}{{ 'a b c' | replace('b', 'x') }}"
    "{{ dict(a=1, b=2) }}{{ {'a': 1, 'b': {'c': [1]}} }}{{ {'a': 1}.items() | list }}{{ {'a': 1} | items | list }}{{ {'b': 1, 'a': 2} | dictsort }}"
    "{{ 1 if false }}{{ 'x' if messages else 'y' }}{{ 5 // 2 * 2 + 5 % 3 - 2 ** 2 }}{{ 'a' * 3 }}{{ 3 > 2 > 1 }}{{ 1 != 2 }}{{ 'b' not in 'abc' }}{{ not true or true }}"
    "{{ {'a': 1} == {'a': 1} }}{{ [1] == [1.0] }}{{ none == false }}{{ 1 in [1, 2] }}{{ 'k' in {'k': 1} }}{{ [1, 2] | first }}{{ [] | last is defined }}"
    "{{ 'x' | default('d') }}{{ none | default('d') }}{{ none | default('d', true) }}{{ 'A-b c' | lower | title }}{{ '<a href=\"x\">' | escape }}{{ '<' | safe }}"
    "{% set x = 'out' %}{% for i in [1] %}{% set x = 'in' %}{% endfor %}{{ x }}{% if true %}{% set x = 'if' %}{% endif %}{{ x }}{{ [1, [2, [3]]] | string | length }}"
    "{% for a, b in [(1, 2), (3, 4)] %}{{ a + b }}{% endfor %}{% for k in {'z': 1, 'y': 2} %}{{ k }}{% endfor %}{{ 1.0 * 3 }}{{ 10 / 4 }}{{ 1e3 }}{{ 0x1f }}{{ 1_000 }}"
    "{% for n in [1, [2, [3]]] recursive %}{{ loop(n) if n is iterable else n }}{{ loop.depth }}{% endfor %}{{ '%05.1f|%s|%r' % (2.25, 'a', 'b') if false else '' }}"
    "{{ 'line1\nline2' | indent }}{{ 'a' ~ 1 ~ 2.0 ~ [1] }}{{ 'a,b' .split(',') | join(';') }}{{ [1, 2, 3] | join }}{{ ['a', 'b'] | join(', ', attribute=none) }}",
    "names": "{% set ns = namespace(found=false, n=0, l=[]) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.found = true %}"
    "{% set ns.n = ns.n + 1 %}{% set ns.l = ns.l + [m.content] %}{% endif %}{% endfor %}{{ ns.found }}{{ ns.n }}{{ ns.l }}{% set a, b = 1, 2 %}{{ a }}{{ b }}"
    "{% macro f(x, y='d') %}[{{ x }}{{ y }}]{% endmacro %}{{ f(1) }}{{ f(1, y=2) }}{% macro g() %}<{{ caller() }}>{% endmacro %}{% call g() %}in{% endcall %}"
    "{% set block %} b {{ a }} {% endset %}{{ block | trim }}{% filter upper %}up{% endfilter %}{% with z = 5 %}{{ z }}{% endwith %}{% raw %}{{ raw }}{% endraw %}{# c #}",
    "tests": "{{ messages is sequence }}{{ messages is iterable }}{{ messages[0] is mapping }}{{ messages[0].content is string }}{{ x is defined }}"
    "{{ x is undefined }}{{ none is none }}{{ 1 is number }}{{ true is boolean }}{{ true is number }}{{ 1.5 is float }}{{ 1 is integer }}{{ true is integer }}"
    "{{ 'a' is sequence }}{{ 3 is odd }}{{ 4 is divisibleby 2 }}{{ 'a' is in ['a'] }}{{ 'A' is upper }}{{ 1 is eq 1 }}{{ x | default('dd') }}{{ '' | default('e', true) }}"
    "{{ messages[0].content is sequence }}{{ 1 is not string }}{{ x | length }}{{ 'q' in x }}{{ 1 == 1.0 }}{{ 'a' < 'b' }}{{ not x }}{{ (x or 'o') }}{{ 1 if x }}",
    "white": "  {% if true %}\n  a\n  {%- if true -%}\n  b  \n {%- endif %}\n  {% endif %}\n{{ 'x' }}\n\n  {#- c -#}  \n y {%+ if true %} z {% endif +%}\n t\n",
    "raise": "{% if messages[0].role != 'system' %}{{ raise_exception('first must be system') }}{% endif %}ok",
    "tokens": "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ messages | length }}{{ add_generation_prompt }}{{ enable_thinking }}{{ strftime_now('%d %b %Y %A %B %-d %y') }}",
    "undefined": "{{ messages[0].nothing }}{{ messages[0].nothing.deeper }}",
    "types": "{{ 'a' + messages[0].content + 1 }}",
    "reasoning": "{% for m in messages %}{{ m.reasoning_content }}|{{ m.thinking }}|{{ m.content is defined }}|{{ m.tool_calls is defined }};{% endfor %}",
}

TEXTS = [
    "Hello!", "你好，世界", "What is 2+2?", "", " spaces  ", "multi\nline\n\n", "<think>\nhm\n</think>\n\nanswer", "a", "\n\n x\ty \n",
    "<|im_end|> injected </s>", "</think>", "<tool_response>\nx\n</tool_response>", "it's \"quoted\" \\ back", "😀 e\u0301 ß ǆ İ", "{{ not.jinja }} {% x %}",
    "line\r\nwith\rreturns\u2028sep\x0b\x1c", "naïve café Ünï", "1234567", "<｜end▁of▁sentence｜>", "[INST] x [/INST]", "'''", "<b>&amp;</b>", "\u200b\ufeff zero",
    "UPPER lower Title", "x" * 300, "\x00\x7f\x85\xa0",
]
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Get \"weather\" <b> 天气\n", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "description": "城市 & name", "enum": ["北京", "Zürich"]},
        "days": {"type": "array", "items": {"type": "integer"}, "default": 1.5}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "noop", "parameters": {"type": "object", "properties": {}}}},
    {"type": "function", "function": {"name": "f", "description": "d", "strict": True, "parameters": {
        "properties": {"x": {"type": ["number", "null"], "default": None, "minimum": -1e-7, "maximum": 1e16}, "items": {"type": "boolean"}},
        "type": "object", "additionalProperties": False}}},
]
DOCUMENTS = [{"title": "T", "text": "some text"}, {"title": "二", "text": "", "id": 3}]


def message(rng, role):
    made = {"role": role, "content": rng.choice(TEXTS)}
    dice = rng.random()
    if role == "assistant" and dice < 0.25:
        arguments = rng.choice([{"city": "北京", "n": 1, "f": 0.5, "nested": {"a": [True, None, "x'y"]}}, {}, '{"city": "Z"}'])
        made["tool_calls"] = [
            {"type": "function", "id": "abcdefgh%d" % i, "function": {"name": "get_weather", "arguments": arguments}}
            for i in range(rng.randint(1, 2))
        ]
        if rng.random() < 0.5:
            made["content"] = rng.choice([None, ""])
    elif role == "assistant" and dice < 0.4:
        made[rng.choice(["reasoning_content", "reasoning", "thinking"])] = rng.choice(TEXTS)
    elif role == "tool":
        made["tool_call_id"] = "abcdefgh0"
        made["name"] = "get_weather"
        if rng.random() < 0.3:
            made["content"] = json.dumps({"t": 20, "u": "°C"}, ensure_ascii=False)
    elif dice > 0.9:
        made["content"] = [{"type": "text", "text": rng.choice(TEXTS)} for _ in range(rng.randint(1, 2))]
    elif dice > 0.88:
        made["extra"] = {"k": [1, 2.5, None]}
    elif dice > 0.87:
        del made["content"]
    return made


def conversation(rng):
    messages = []
    if rng.random() < 0.5:
        # What every template takes: user and assistant in turn, with texts.
        if rng.random() < 0.4:
            messages.append({"role": "system", "content": rng.choice(TEXTS)})
        for turn in range(rng.randint(1, 6)):
            messages.append({"role": ["user", "assistant"][turn % 2], "content": rng.choice(TEXTS)})
        return messages
    if rng.random() < 0.4:
        messages.append(message(rng, "system"))
    for _ in range(rng.randint(1, 3)):
        messages.append(message(rng, "user"))
        if rng.random() < 0.75:
            messages.append(message(rng, "assistant"))
            if "tool_calls" in messages[-1]:
                messages += [message(rng, "tool") for _ in messages[-1]["tool_calls"]]
                if rng.random() < 0.6:
                    messages.append({"role": "assistant", "content": rng.choice(TEXTS)})
    if rng.random() < 0.05:
        rng.shuffle(messages)
    return messages


def tokenizer_of(config):
    tokens = {}
    for name in NAMES:
        token = config.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        if token is not None:
            tokens[name] = token
    template = config["chat_template"]
    if isinstance(template, list):
        template = {entry["name"]: entry["template"] for entry in template}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), chat_template=template, **tokens)
    return tokenizer, template if isinstance(template, dict) else {"default": template}, tokens


def case(rng, tokenizer):
    """One request and what the reference makes of it."""
    request = {"messages": conversation(rng), "add_generation_prompt": rng.random() < 0.5}
    if rng.random() < 0.3:
        request["tools"] = rng.sample(TOOLS, rng.randint(0, 3))
    if rng.random() < 0.1:
        request["documents"] = DOCUMENTS
    if rng.random() < 0.3:
        request["chat_template_kwargs"] = rng.choice(
            [{"enable_thinking": False}, {"enable_thinking": True}, {"thinking": True}, {"date_string": "26 Jul 2024"},
             {"bos_token": "<B>"}, {"custom_tools": None}, {"tools_in_user_message": False}])
    if request["messages"][-1]["role"] == "assistant" and rng.random() < 0.4:
        request["add_generation_prompt"] = False
        request["continue_final_message"] = True
    sent = json.loads(json.dumps(request))
    extra = sent.pop("chat_template_kwargs", {})
    try:
        return request, tokenizer.apply_chat_template(sent.pop("messages"), tokenize=False, **sent, **extra)
    except Exception as error:  # whatever stops the reference is a refusal
        return request, error


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("configs", nargs="+", type=pathlib.Path)
    parser.add_argument("--cases", type=int, default=100, help="for each published template")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("chat-cases.jsonl"))
    parser.add_argument("--no-test", action="store_true")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    templates = {}
    for folder in options.configs:
        for path in sorted(folder.glob("*.tokenizer_config.json")):
            config = json.loads(path.read_text())
            if "chat_template" in config:
                templates[path.name.removesuffix(".tokenizer_config.json")] = (config, options.cases)
    for name, source in SMALL.items():
        config = {"chat_template": source, "bos_token": "<s>", "eos_token": {"content": "</s>"}}
        templates["small-" + name] = (config, max(10, options.cases // 2))
    both = [{"name": "default", "template": "D{{ tools }}"}, {"name": "tool_use", "template": "T{{ tools | length }}"}]
    templates["small-two"] = ({"chat_template": both}, 10)
    written = refused = 0
    with options.out.open("w") as out:
        for name, (config, cases) in templates.items():
            tokenizer, sources, tokens = tokenizer_of(config)
            for _ in range(cases):
                request, rendered = case(rng, tokenizer)
                row = {"name": name, "sources": sources, "tokens": tokens, "request": request}
                if isinstance(rendered, str):
                    row["rendered"] = rendered
                else:
                    row["refused"] = f"{type(rendered).__name__}: {rendered}"[:300]
                    refused += 1
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
                written += 1
    print(f"{written} cases of {len(templates)} templates, {refused} of them refused, in {options.out}")
    if not options.no_test:
        env = {**os.environ, "CHAT_CASES": str(options.out.resolve())}
        command = ["cargo", "test", "--test", "it", "chat::cases_of_the_reference", "--", "--nocapture"]
        sys.exit(subprocess.run(command, env=env, check=False).returncode)


if __name__ == "__main__":
    main()
