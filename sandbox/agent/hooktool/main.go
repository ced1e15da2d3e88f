// Hooktool is every hook tool by its own name, juju-exec, and what charm-init runs: `hooktool init`.
// A tool's call goes to the controller over HTTP with the unit's own token, and its answer is printed as it comes.
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
	name := filepath.Base(os.Args[0])
	if len(os.Args) > 1 && os.Args[1] == "init" {
		if err := initialise(os.Args[2:]); err != nil {
			fail(1, err)
		}
		return
	}
	conf, err := readConf()
	if err != nil {
		fail(1, err)
	}
	if name == "juju-exec" {
		var done answer
		if err := conf.post("/agent/exec", map[string]any{"command": os.Args[1:]}, &done); err != nil {
			fail(1, err)
		}
		done.leave()
	}
	context := os.Getenv("JUJU_CONTEXT_ID")
	if context == "" {
		fail(1, errors.New("JUJU_CONTEXT_ID not set"))
	}
	argv, stdin, output, err := local(append([]string{name}, os.Args[1:]...))
	if err != nil {
		fail(2, err)
	}
	var done answer
	if err := conf.post("/agent/hook", map[string]any{"context": context, "argv": argv, "stdin": stdin}, &done); err != nil {
		fail(1, err)
	}
	if name == "resource-get" && done.Code == 0 {
		if err := conf.fetch(strings.TrimSpace(done.Stdout)); err != nil {
			fail(1, fmt.Errorf("could not download resource: %w", err))
		}
	}
	if output != "" && done.Code == 0 {
		if err := os.WriteFile(output, []byte(done.Stdout), 0o644); err != nil {
			fail(1, err)
		}
		done.Stdout = ""
	}
	done.leave()
}

// local reads the files a call names, which the controller cannot, and takes out -o.
func local(argv []string) (sent []string, stdin, output string, err error) {
	for i := 0; i < len(argv); i++ {
		word := argv[i]
		flag, value, joined := strings.Cut(word, "=")
		switch {
		case word == "--":
			return append(sent, argv[i:]...), stdin, output, nil
		case flag == "-o" || flag == "--output" || flag == "--file":
			if !joined {
				if i++; i == len(argv) {
					return nil, "", "", fmt.Errorf("option needs an argument: %s", word)
				}
				value = argv[i]
			}
			if flag != "--file" {
				output = value
				continue
			}
			var content []byte
			if value == "-" {
				content, err = io.ReadAll(os.Stdin)
			} else {
				content, err = os.ReadFile(value)
			}
			if err != nil {
				return nil, "", "", err
			}
			stdin = string(content)
			sent = append(sent, "--file", "-")
		case joined && strings.HasPrefix(argv[0], "secret-") && strings.HasSuffix(flag, "#file"):
			content, err := os.ReadFile(value)
			if err != nil {
				return nil, "", "", err
			}
			key := strings.TrimSuffix(flag, "#file")
			sent = append(sent, key+"#base64="+base64.StdEncoding.EncodeToString(content))
		default:
			sent = append(sent, word)
		}
	}
	return sent, stdin, output, nil
}

func readConf() (conf agentConf, err error) {
	path := filepath.Join(filepath.Dir(os.Getenv("JUJU_AGENT_SOCKET_ADDRESS")), "agent.conf")
	if os.Getenv("JUJU_AGENT_SOCKET_ADDRESS") == "" { // juju-exec from outside a hook
		found, _ := filepath.Glob("/var/lib/juju/agents/unit-*/agent.conf")
		if len(found) != 1 {
			return conf, errors.New("no unit agent here")
		}
		path = found[0]
	}
	content, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(content, &conf)
	}
	return conf, err
}

func (conf agentConf) request(method, path string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequest(method, conf.Controller+path, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+conf.Token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()
		return nil, fmt.Errorf("%s", strings.TrimSpace(string(text)))
	}
	return response, nil
}

func (conf agentConf) post(path string, body, into any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	response, err := conf.request("POST", path, bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(into)
}

// fetch downloads a resource to the path that resource-get told, unless it is there.
func (conf agentConf) fetch(path string) error {
	name := filepath.Base(filepath.Dir(path))
	response, err := conf.request("GET", "/agent/resource/"+name, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}

func (done answer) leave() {
	os.Stdout.WriteString(done.Stdout)
	os.Stderr.WriteString(done.Stderr)
	os.Exit(done.Code)
}

func fail(code int, err error) {
	fmt.Fprintf(os.Stderr, "ERROR %s\n", err)
	os.Exit(code)
}
