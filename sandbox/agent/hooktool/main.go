// Hooktool is every hook tool by its own name, juju-exec, and what charm-init runs: `hooktool init`.
// A tool's call goes to the controller over HTTP with the unit's own token; its answer is printed as it comes.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// agentConf is what lets a unit speak for itself; charm-init writes it, mode 0600.
type agentConf struct {
	Controller string `json:"controller"`
	Token      string `json:"token"`
	Unit       string `json:"unit"`
	PodUID     string `json:"pod_uid"`
}

type answer struct {
	Code   int    `json:"code"`
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
}

func main() {
	name, context := filepath.Base(os.Args[0]), os.Getenv("JUJU_CONTEXT_ID")
	if len(os.Args) > 1 && os.Args[1] == "init" {
		initialise(os.Args[2:])
		return
	}
	var done answer
	conf := readConf()
	if name == "juju-exec" {
		check(conf.post("/agent/exec", map[string]any{"command": os.Args[1:]}, &done))
		done.leave()
	}
	if context == "" {
		fail(1, errors.New("JUJU_CONTEXT_ID not set"))
	}
	argv, stdin, output, err := local(append([]string{name}, os.Args[1:]...))
	if err != nil {
		fail(2, err)
	}
	check(conf.post("/agent/hook", map[string]any{"context": context, "argv": argv, "stdin": stdin}, &done))
	if name == "resource-get" && done.Code == 0 {
		path := strings.TrimSpace(done.Stdout)
		resource := filepath.Base(filepath.Dir(path))
		content := must(conf.request("GET", "/agent/resource/"+resource, nil))
		check(os.MkdirAll(filepath.Dir(path), 0o755))
		check(os.WriteFile(path, content, 0o600))
	}
	if output != "" && done.Code == 0 {
		check(os.WriteFile(output, []byte(done.Stdout), 0o644))
		done.Stdout = ""
	}
	done.leave()
}

// local reads the files that a call names, which the controller cannot, and takes out -o.
func local(argv []string) (sent []string, stdin, output string, err error) {
	for i := 0; i < len(argv); i++ {
		word := argv[i]
		flag, value, joined := strings.Cut(word, "=")
		var content []byte
		switch {
		case word == "--":
			return append(sent, argv[i:]...), stdin, output, nil
		case joined && strings.HasPrefix(argv[0], "secret-") && strings.HasSuffix(flag, "#file"):
			content, err = os.ReadFile(value)
			key := strings.TrimSuffix(flag, "#file")
			sent = append(sent, key+"#base64="+base64.StdEncoding.EncodeToString(content))
		case flag != "-o" && flag != "--output" && flag != "--file":
			sent = append(sent, word)
		case !joined && i+1 == len(argv):
			err = fmt.Errorf("option needs an argument: %s", word)
		default:
			if !joined {
				i++
				value = argv[i]
			}
			if flag != "--file" {
				output = value
				continue
			}
			if value == "-" {
				content, err = io.ReadAll(os.Stdin)
			} else {
				content, err = os.ReadFile(value)
			}
			stdin, sent = string(content), append(sent, "--file", "-")
		}
		if err != nil {
			return nil, "", "", err
		}
	}
	return sent, stdin, output, nil
}

func readConf() (conf agentConf) {
	path := filepath.Join(filepath.Dir(os.Getenv("JUJU_AGENT_SOCKET_ADDRESS")), "agent.conf")
	if path == "agent.conf" { // juju-exec from outside of a hook
		found := must(filepath.Glob("/var/lib/juju/agents/unit-*/agent.conf"))
		if len(found) != 1 {
			fail(1, errors.New("no unit agent here"))
		}
		path = found[0]
	}
	check(json.Unmarshal(must(os.ReadFile(path)), &conf))
	return conf
}

func (conf agentConf) request(method, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequest(method, conf.Controller+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+conf.Token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(content)))
	}
	return content, err
}

func (conf agentConf) post(path string, body, into any) error {
	content, err := conf.request("POST", path, must(json.Marshal(body)))
	if err != nil {
		return err
	}
	return json.Unmarshal(content, into)
}

func (done answer) leave() {
	os.Stdout.WriteString(done.Stdout)
	os.Stderr.WriteString(done.Stderr)
	os.Exit(done.Code)
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fail(1, err)
	}
}

func fail(code int, err error) {
	fmt.Fprintf(os.Stderr, "ERROR %s\n", err)
	os.Exit(code)
}
