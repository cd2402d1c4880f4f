"""Chat templates: honest ones pass, those that put a name together do not."""

from pathlib import Path

import pytest

from modelward.scan import Verdict, scan_path

HONEST = {
    "tools": (
        "{{- bos_token }}{%- if custom_tools is defined %}{%- set tools = custom_tools "
        "%}{%- endif %}{%- if messages[0]['role'] == 'system' %}{%- set system_message = "
        "messages[0]['content']|trim %}{%- set messages = messages[1:] %}{%- endif %}{%- "
        "for t in tools %}{{- t | tojson(indent=4) }}{%- endfor %}{%- for message in "
        "messages %}{%- if message.role == 'ipython' %}{{- '<|start_header_id|>' + "
        "message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + "
        "'<|eot_id|>' }}{%- elif 'tool_calls' in message %}{%- set tool_call = "
        "message.tool_calls[0].function %}{%- for arg_name, arg_val in "
        "tool_call.arguments | items %}{{- arg_name + '=\"' + arg_val + '\"' }}{%- endfor "
        "%}{%- endif %}{%- endfor %}"
    ),
    "thinking": (
        "{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - "
        "1) %}{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) -"
        ' loop.index0 %}{%- if ns.multi_step_tool and message.role == "user" and '
        "message.content is string and not(message.content.startswith('<tool_response>') "
        "and message.content.endswith('</tool_response>')) %}{%- set ns.multi_step_tool ="
        " false %}{%- set ns.last_query_index = index %}{%- endif %}{%- endfor %}{%- for "
        "message in messages %}{%- if '</think>' in message.content %}{%- set "
        "reasoning_content = message.content.split('</think>')[0].rstrip('\\n').split('<th"
        "ink>')[-1].lstrip('\\n') %}{%- set content = "
        "message.content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}{%- if "
        "loop.last or (messages[loop.index0 + 1].role != \"tool\") %}{{- '<|im_end|>\\n' "
        "}}{%- endif %}{{ messages[ns.last_query_index].content }}{%- endfor %}"
    ),
    "macro": (
        "{% macro render_extra_keys(json_dict, handled_keys) %}{%- if json_dict is "
        "mapping %}{%- for json_key in json_dict if json_key not in handled_keys %}{%- if"
        " json_dict[json_key] is mapping or (json_dict[json_key] is sequence and "
        "json_dict[json_key] is not string) %}{{- '\\n<' ~ json_key ~ '>' ~ "
        "(json_dict[json_key] | tojson | safe) ~ '</' ~ json_key ~ '>' }}{%- else "
        "%}{{-'\\n<' ~ json_key ~ '>' ~ (json_dict[json_key] | string) ~ '</' ~ json_key ~"
        " '>' }}{%- endif %}{%- endfor %}{%- endif %}{% endmacro %}{%- for tool in tools "
        "%}{{- render_extra_keys(tool, ['type','name']) }}{%- for args_name, args_value "
        "in tool_call.arguments|items %}{%- set args_value = args_value if args_value is "
        "string else args_value | tojson | safe %}{{ args_value }}{%- endfor %}{%- endfor"
        " %}"
    ),
    "counted": (
        "{%- set loop_messages = messages %}{%- set user_messages = loop_messages | "
        'selectattr("role", "equalto", "user") | list %}{%- set ns = namespace(index=0) '
        '%}{%- for message in loop_messages %}{%- if (message["role"] == "user") != '
        '(ns.index % 2 == 0) %}{{- raise_exception("x") }}{%- endif %}{%- set ns.index = '
        'ns.index + 1 %}{%- endfor %}{%- for key, val in tool.items() if key != "return" '
        "%}{{- '\"' + key + '\": \"' + val + '\"' }}{%- endfor %}{{ messages | "
        "map(attribute='role') | join(', ') }}"
    ),
    "prefix": (
        "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- if "
        "messages[0]['content'] is string -%}{%- set first_user_prefix = "
        "messages[0]['content'] + '\\n\\n' -%}{%- else -%}{%- set first_user_prefix = "
        "messages[0]['content'][0]['text'] + '\\n\\n' -%}{%- endif -%}{%- set loop_messages"
        " = messages[1:] -%}{%- endif -%}{%- for message in loop_messages -%}{%- if "
        "(message['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception(\"\") "
        "}}{%- endif -%}{{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if "
        'loop.first else "") }}{%- endfor -%}'
    ),
    "generation": (
        "{% for m in messages %}{% if m.role=='assistant' %}{% generation %}{{ "
        "m['content'] }}{% endgeneration %}{% endif %}{% if loop.index > 5 %}{% break "
        "%}{% endif %}{% endfor %}"
    ),
    "tables": (
        "{%- for s in ['a','b'] %}{{ strings[s] }}{%- endfor %}{%- set types = "
        "{'string':'str','int':'int'} %}{%- if p.type in types %}{{ types[p.type] }}{%- "
        "endif %}{{ types[p['type']] }}{{ msgs | sort(attribute='x') | first }}{% set r ="
        " 'user' if x else 'assistant' %}{{ d[r] }}{{ param_spec.type[0] }}{{ "
        "messages[-1]['content'] }}{{ name[:-1] }}{{ d[loop.index0 % 2] }}"
    ),
}
HOSTILE = [
    "{{ messages['_'*2 ~ 'class' ~ '_'*2] }}",
    "{{ messages['%c%cclass%c%c'|format(95,95,95,95)] }}",
    "{% set k=['_','_class_','_']|join %}{{ messages[k] }}",
    "{{ messages|map(attribute='_'*2~'class'~'_'*2)|list }}",
    "{{ [messages]|map('attr','_'*2~'class'~'_'*2)|list }}",
    "{% set a='_' %}{% set b=a+a+'class'+a+a %}{{ x[b] }}",
    "{% set a='_' %}{{ x[a+a] }}",
    "{% macro m(k) %}{{ x[k] }}{% endmacro %}{{ m('_'*2~'class') }}",
    "{% set ns=namespace(k='_'*2~'c') %}{{ x[ns.k] }}",
    "{% set k %}_{{''}}_class{% endset %}{{ x[k] }}",
    "{% for k in ['_'~'_class'] %}{{ x[k] }}{% endfor %}",
    "{{ x['_'.join(['','','class'])] }}",
    "{% include '/etc/passwd' %}",
    "{% set d={'k':'_'~'_c'} %}{{ x[d.k] }}{{ x[d['k']] }}",
    "{{ x['ssalc'[::-1]] }}",
    "{{ x['\\u{5f}\\N{LOW LINE}'] }}",
    "{% set f='attr' %}{{ [x]|map(f,'a')|list }}",
    "{{ x[('_','_')|join] }}",
    "{% with k='_'~'_a' %}{{ x[k] }}{% endwith %}",
]


@pytest.mark.parametrize("name", HONEST)
def test_honest_templates_pass(name: str, tmp_path: Path):
    path = tmp_path / "chat_template.jinja"
    path.write_text(HONEST[name])
    assert scan_path(path).verdict is Verdict.CLEAN


@pytest.mark.parametrize("template", HOSTILE)
def test_names_that_are_put_together(template: str, tmp_path: Path):
    path = tmp_path / "chat_template.jinja"
    path.write_text(template)
    found = scan_path(path).findings
    assert [finding.rule for finding in found] == ["MW-TPL-001"]


def test_the_way_out_is_real():
    """jinja2 itself, outside its sandbox, reaches a class by a name that is put together."""
    from jinja2 import Environment

    template = Environment().from_string(HOSTILE[0])
    assert template.render(messages=[1]) == "<class 'list'>"


def test_a_deep_or_long_template_is_not_clean(tmp_path: Path):
    path = tmp_path / "chat_template.jinja"
    for text in ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "a" * (2**20 + 1)):
        path.write_text(text)
        assert scan_path(path).verdict is Verdict.INCOMPLETE


def test_templates_lie_anywhere_in_a_configuration(tmp_path: Path):
    path = tmp_path / "processor_config.json"
    path.write_text('{"a": {"chat_templates": [{"name": "x", "template": "{{ x.__class__ }}"}]}}')
    assert [finding.rule for finding in scan_path(path).findings] == ["MW-TPL-001"]
    path.write_text('{"a": {"other": "{{ x.__class__ }}"}, "chat_template": null}')
    assert scan_path(path).verdict is Verdict.CLEAN
