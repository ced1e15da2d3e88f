package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestLocalReadsTheFilesThatACallNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(path, []byte("a: b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, it := range map[string]struct {
		argv, sent    []string
		stdin, output string
	}{
		"a file":        {[]string{"relation-set", "--file", path}, []string{"relation-set", "--file", "-"}, "a: b\n", ""},
		"a joined file": {[]string{"state-set", "--file=" + path}, []string{"state-set", "--file", "-"}, "a: b\n", ""},
		"a secret's":    {[]string{"secret-add", "key#file=" + path}, []string{"secret-add", "key#base64=YTogYgo="}, "", ""},
		"no secret's":   {[]string{"relation-set", "key#file=" + path}, []string{"relation-set", "key#file=" + path}, "", ""},
		"an output":     {[]string{"config-get", "-o", "/x", "k"}, []string{"config-get", "k"}, "", "/x"},
		"a value":       {[]string{"status-set", "active", "a=b -o"}, []string{"status-set", "active", "a=b -o"}, "", ""},
		"behind --":     {[]string{"juju-log", "--", "-o", "x"}, []string{"juju-log", "--", "-o", "x"}, "", ""},
	} {
		sent, stdin, output, err := local(it.argv)
		if err != nil || !slices.Equal(sent, it.sent) || stdin != it.stdin || output != it.output {
			t.Errorf("%s: %q %q %q %v", name, sent, stdin, output, err)
		}
	}
	if _, _, _, err := local([]string{"state-set", "--file", "/nosuch"}); err == nil {
		t.Error("a file that is not there is no error")
	}
}
