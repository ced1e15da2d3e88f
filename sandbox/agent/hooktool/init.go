package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const tools = `action-fail action-get action-log action-set application-version-set close-port config-get
credential-get goal-state is-leader juju-log juju-reboot network-get open-port opened-ports relation-get relation-ids
relation-list relation-model-get relation-set resource-get secret-add secret-get secret-grant secret-ids
secret-info-get secret-remove secret-revoke secret-set state-delete state-get state-set status-get status-set
storage-add storage-get storage-list unit-get`

const layer = `summary: the unit agent
services:
  container-agent:
    override: replace
    startup: enabled
    command: python3 /charm/bin/agent.py %s
    kill-delay: 30s
    backoff-limit: 2s
checks:
  liveness:
    override: replace
    level: alive
    startup: enabled
    period: 10s
    threshold: 3
    http: {url: "http://127.0.0.1:3856/liveness"}
`

// initialise introduces the pod to the controller and lays out what its containers need,
// with the arguments and the places of Juju's own `containeragent init`.
func initialise(args []string) error {
	flags := flag.NewFlagSet("init", flag.ContinueOnError)
	pebble := flags.String("containeragent-pebble-dir", "", "")
	data := flags.String("data-dir", "", "")
	bin := flags.String("bin-dir", "", "")
	profile := flags.String("profile-dir", "", "")
	identities := flags.String("pebble-identities-file", "", "")
	identity := flags.String("pebble-charm-identity", "", "")
	flags.String("charm-modified-version", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	conf := introduce()
	unit := "unit-" + strings.ReplaceAll(conf.Unit, "/", "-")
	agent := filepath.Join(*data, "agents", unit)
	toolsDir := filepath.Join(*data, "tools", unit)
	for _, dir := range []string{agent, toolsDir, filepath.Join(*pebble, "layers"), *profile} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for target, source := range map[string]string{
		"pebble": "pebble", "jujuc": "hooktool", "containeragent": "hooktool", "agent.py": "agent.py"} {
		if err := copyFile("/opt/agent/"+source, filepath.Join(*bin, target)); err != nil {
			return err
		}
	}
	for _, tool := range append(strings.Fields(tools), "jujuc") {
		link := filepath.Join(toolsDir, tool)
		os.Remove(link)
		if err := os.Symlink(filepath.Join(*bin, "jujuc"), link); err != nil {
			return err
		}
	}
	encoded, err := json.Marshal(conf)
	if err != nil {
		return err
	}
	files := map[string]string{
		filepath.Join(agent, "agent.conf"):                        string(encoded),
		filepath.Join(*pebble, "layers/001-container-agent.yaml"): fmt.Sprintf(layer, agent),
		filepath.Join(*profile, "juju-introspection.sh"):          "",
	}
	if *identities != "" {
		files[*identities] = fmt.Sprintf("identities:\n  charm: {access: admin, local: {user-id: %s}}\n", *identity)
	}
	for path, content := range files {
		mode := os.FileMode(0o644)
		if strings.HasSuffix(path, ".conf") {
			mode = 0o600
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			return err
		}
	}
	return nil
}

// introduce asks until the controller knows the pod's unit; Kubernetes shows the pod as initialising meanwhile.
func introduce() agentConf {
	conf := agentConf{
		Controller: os.Getenv("JUJU_K8S_CONTROLLER_ADDRESSES"),
		Token:      os.Getenv("JUJU_K8S_APPLICATION_PASSWORD"),
	}
	pod := map[string]string{"pod": os.Getenv("JUJU_K8S_POD_NAME"), "uid": os.Getenv("JUJU_K8S_POD_UUID")}
	for {
		err := conf.post("/agent/introduce", pod, &conf)
		if err == nil {
			return conf
		}
		fmt.Fprintln(os.Stderr, "waiting for the controller:", err)
		time.Sleep(time.Second)
	}
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	os.Remove(to) // a running binary cannot be written over
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		return err
	}
	return target.Close()
}
