// Fills Go templates with conversations, as Ollama does: `.Messages` is the conversation, `.System`
// all system messages. stdin: a list of {template, conversations}; stdout: a list of lists of texts.
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
	"time"
)

type message struct{ Role, Content string }

type work struct {
	Template      string
	Conversations [][]message
}

func fill(written *template.Template, messages []message) string {
	var system []string
	for _, message := range messages {
		if message.Role == "system" {
			system = append(system, message.Content)
		}
	}
	var text strings.Builder
	values := map[string]any{"System": strings.Join(system, "\n\n"), "Messages": messages}
	if err := written.Execute(&text, values); err != nil {
		panic(err)
	}
	return text.String()
}

func main() {
	var all []work
	if err := json.NewDecoder(os.Stdin).Decode(&all); err != nil {
		panic(err)
	}
	day := template.FuncMap{"currentDate": func() string { return time.Now().Format("2006-01-02") }}
	texts := [][]string{}
	for _, one := range all {
		written := template.Must(template.New("").Funcs(day).Parse(one.Template))
		filled := []string{}
		for _, messages := range one.Conversations {
			filled = append(filled, fill(written, messages))
		}
		texts = append(texts, filled)
	}
	if err := json.NewEncoder(os.Stdout).Encode(texts); err != nil {
		panic(err)
	}
}
