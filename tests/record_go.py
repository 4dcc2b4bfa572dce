"""Writes tests/data/templates/go.json: what real Go makes of the derived templates. Needs a Go compiler; run by hand.

The program below feeds text/template as Ollama does: neighbours of one role joined, system texts gathered, a map of
values with the messages as pointers to structs.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from chat_families import FAMILIES, TEMPLATES, prompts_of

PROGRAM = """
package main

import ("bytes"; "encoding/json"; "os"; "strings"; "text/template")

type Message struct { Role, Content, Thinking string; ToolCalls []any }
type Case struct { Template string; Messages []Message }

func main() {
	var cases []Case
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil { panic(err) }
	var out []*string
	for _, c := range cases {
		var system []string
		var joined []*Message
		for i := range c.Messages {
			m := &c.Messages[i]
			if m.Role == "system" { system = append(system, m.Content) }
			if n := len(joined); n > 0 && joined[n-1].Role == m.Role {
				joined[n-1].Content += "\\n\\n" + m.Content
			} else {
				joined = append(joined, m)
			}
		}
		var b bytes.Buffer
		t, err := template.New("").Option("missingkey=zero").Parse(c.Template)
		if err == nil {
			err = t.Execute(&b, map[string]any{"Messages": joined, "System": strings.Join(system, "\\n\\n"),
				"Tools": []any{}, "Response": "", "Think": false, "IsThinkSet": false})
		}
		if err != nil { out = append(out, nil); continue }
		s := b.String()
		out = append(out, &s)
	}
	json.NewEncoder(os.Stdout).Encode(out)
}
"""
TALKS = [
    [("user", "Why?")],
    [("system", "簡潔に。"), ("user", "時間はなぜ\n不可逆？"), ("assistant", '<b>&"\\'), ("user", "{{ .Role }}")],
    [("user", "a"), ("assistant", ""), ("user", ""), ("assistant", "b"), ("user", "c")],
    [("system", ""), ("user", "🌊")],
]
SNIPPETS = [
    "plain",
    'a {{- " b " -}} c',
    'a\n  {{-   "b"   }}  \n c',
    '{{ "\\"\\\\\\n\\t\\u00e9 }} {{" }}|',
    "{{/* a comment */}}x{{- /* another */ -}} y",
    "{{ range .Messages }}{{ .Role }}:{{ .Content }};{{ end }}",
    "{{ range $i, $m := .Messages }}{{ $i }}{{ $m.Role }}{{ end }}",
    "{{ range $m := .Messages }}{{ $m.Content }}{{ end }}",
    "{{ range .Tools }}x{{ else }}none{{ end }}",
    "{{ if .System }}has {{ .System }}{{ else if eq 1 1 }}no system{{ else }}never{{ end }}",
    '{{ $x := "1" }}{{ if true }}{{ $x := "2" }}{{ $x }}{{ end }}{{ $x }}',
    '{{ $x := "1" }}{{ if true }}{{ $x = "2" }}{{ end }}{{ $x }}',
    '{{ $last := "" }}{{ range .Messages }}{{ $last }}{{ $last = .Role }}{{ end }}{{ $last }}',
    "{{ range $i, $_ := .Messages }}{{ eq (len (slice $.Messages $i)) 1 }}{{ end }}",
    '{{ eq "a" "b" "a" }} {{ ne 1 2 }} {{ not "" }} {{ and true "x" }} {{ or "" "y" }} {{ and "" true }}',
    "{{ $n := len .Messages }}{{ $n }}{{ $first := index .Messages 0 }}{{ $first.Content }}",
    "{{ nothing }}",
    "{{ $undeclared }}",
    "{{ if true }}",
    "{{ end }}",
    '{{ "open',
    "{% for m in messages %}{{ m['role'] }}{% endfor %}",
    '{{ if true }}{{ $inner := "x" }}{{ end }}{{ $inner }}',
    '{{ if eq .System "簡潔に。" }}yes{{ end }}',
]


def talk(rows: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in rows]


def cases(folder: Path) -> list[dict[str, Any]]:
    """Every derived template, with and without its leading token, and the snippets; `go` is to be filled in."""
    found = []
    for name in FAMILIES:
        prompts = prompts_of(name, folder / name)
        for adds_bos in (False, True) if prompts.format.bos else (False,):
            template = prompts.format.go_template(server_adds_bos=adds_bos)
            for rows in TALKS:
                if prompts.format.system or rows[0][0] != "system":
                    messages = prompts.for_server(talk(rows))
                    found += [{"family": name, "adds_bos": adds_bos, "template": template, "messages": messages}]
    return found + [{"template": text, "messages": talk(rows)} for text in SNIPPETS for rows in TALKS[:2]]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = cases(Path(folder))
        program = Path(folder) / "main.go"
        program.write_text(PROGRAM, encoding="utf-8")
        ran = subprocess.run(
            ["go", "run", str(program)], input=json.dumps(rows), stdout=subprocess.PIPE, encoding="utf-8", check=True
        )
    for row, made in zip(rows, json.loads(ran.stdout), strict=True):
        row["go"] = made  # null: Go refuses the template
    text = json.dumps(rows, ensure_ascii=False, indent=1)
    (TEMPLATES / "go.json").write_text(text + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
