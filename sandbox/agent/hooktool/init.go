package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const tools = `action-fail action-get action-log action-set application-version-set close-port config-get
credential-get goal-state is-leader juju-log juju-reboot network-get open-port opened-ports relation-get
relation-ids relation-list relation-model-get relation-set resource-get secret-add secret-get secret-grant
secret-ids secret-info-get secret-remove secret-revoke secret-set state-delete state-get state-set status-get
status-set storage-add storage-get storage-list unit-get jujuc`

const layer = `summary: the unit agent
services:
  container-agent:
    override: replace
    startup: enabled
    command: python3 /charm/bin/agent.py %s
    kill-delay: 30s
checks:
  liveness:
    override: replace
    level: alive
    http: {url: "http://127.0.0.1:3856/liveness"}
`

const identities = "identities:\n  charm: {access: admin, local: {user-id: %s}}\n"

// initialise introduces the pod to the controller and lays out what its containers need, with the
// arguments and the places of Juju's own `containeragent init`.
func initialise(args []string) {
	flags := flag.NewFlagSet("init", flag.ExitOnError)
	pebble := flags.String("containeragent-pebble-dir", "", "")
	data := flags.String("data-dir", "", "")
	bin := flags.String("bin-dir", "", "")
	profile := flags.String("profile-dir", "", "")
	admins := flags.String("pebble-identities-file", "", "")
	admin := flags.String("pebble-charm-identity", "", "")
	flags.String("charm-modified-version", "", "")
	check(flags.Parse(args))

	conf := introduce()
	unit := "unit-" + strings.ReplaceAll(conf.Unit, "/", "-")
	agent := filepath.Join(*data, "agents", unit)
	write(filepath.Join(agent, "agent.conf"), must(json.Marshal(conf)), 0o600)
	for target, source := range map[string]string{
		"pebble": "pebble", "jujuc": "hooktool", "containeragent": "hooktool", "agent.py": "agent.py"} {
		write(filepath.Join(*bin, target), must(os.ReadFile("/opt/agent/"+source)), 0o755)
	}
	directory := filepath.Join(*data, "tools", unit)
	check(os.MkdirAll(directory, 0o755))
	for _, tool := range strings.Fields(tools) {
		os.Remove(filepath.Join(directory, tool))
		check(os.Symlink(filepath.Join(*bin, "jujuc"), filepath.Join(directory, tool)))
	}
	write(filepath.Join(*pebble, "layers/001-container-agent.yaml"), fmt.Appendf(nil, layer, agent), 0o644)
	write(filepath.Join(*profile, "juju-introspection.sh"), nil, 0o644)
	if *admins != "" {
		write(*admins, fmt.Appendf(nil, identities, *admin), 0o644)
	}
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

// write replaces a file, a binary that runs too, and makes the folders above it.
func write(path string, content []byte, mode os.FileMode) {
	check(os.MkdirAll(filepath.Dir(path), 0o755))
	os.Remove(path)
	check(os.WriteFile(path, content, mode))
}
