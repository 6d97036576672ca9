package main

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"zmtpd/cmd/zmtpd/daemon"
)

// accept checks that zmtpd accepts a command line.
func accept(t *testing.T, where string, args ...string) {
	t.Helper()
	std := daemon.Stdio{Out: new(bytes.Buffer), Err: new(bytes.Buffer)}
	if _, err := parseArgs(context.Background(), args, std); err != nil {
		t.Errorf("%s: %v", where, err)
	}
}

// zmtpd accepts its command lines, variables and configurations in packages, and the ports and
// volumes of the Kubernetes manifest fit together.
func TestPackaging(t *testing.T) {
	const dir = "../../packaging/"
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(dir + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	documents := strings.Split(read("kubernetes/zmtpd.yaml"), "\n---\n")
	if len(documents) != 2 {
		t.Fatalf("%d documents", len(documents))
	}
	type named struct {
		Name                string
		Port, ContainerPort int
	}
	var service struct {
		Spec struct{ Ports []named }
	}
	type probe struct {
		HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
	}
	var set struct {
		Spec struct {
			Template struct {
				Spec struct {
					Containers []struct {
						Args                          []string
						Ports                         []named
						LivenessProbe, ReadinessProbe probe `yaml:",omitempty"`
						VolumeMounts                  []struct{ Name, MountPath string }
					}
					Volumes []named
				}
			}
			VolumeClaimTemplates []struct{ Metadata named }
		}
	}
	for i, to := range []any{&service, &set} {
		// The fields of Kubernetes are in camel case; yaml looks for them in lower case.
		text := regexp.MustCompile(`\b[a-z]+[A-Z][A-Za-z]*:`).ReplaceAllStringFunc(documents[i],
			func(key string) string {
				if key == "httpGet:" {
					return key
				}
				return strings.ToLower(key)
			})
		if err := yaml.Unmarshal([]byte(text), to); err != nil {
			t.Fatal(err)
		}
	}
	pod := set.Spec.Template.Spec
	c := pod.Containers[0]
	accept(t, "kubernetes", c.Args...)
	for _, p := range service.Spec.Ports {
		if !slices.Contains(c.Ports, named{Name: p.Name, ContainerPort: p.Port}) {
			t.Errorf("no container has the port %v of the service", p)
		}
	}
	if c.LivenessProbe.HTTPGet.Path != "/healthz" || c.ReadinessProbe.HTTPGet.Path != "/readyz" {
		t.Errorf("probes %+v %+v", c.LivenessProbe, c.ReadinessProbe)
	}
	for _, m := range c.VolumeMounts {
		if !slices.ContainsFunc(pod.Volumes, func(v named) bool { return v.Name == m.Name }) &&
			m.Name != set.Spec.VolumeClaimTemplates[0].Metadata.Name {
			t.Errorf("there is no volume %s", m.Name)
		}
		if !slices.ContainsFunc(c.Args, func(a string) bool {
			return strings.HasSuffix(a, "="+m.MountPath)
		}) {
			t.Errorf("no flag has the folder %s", m.MountPath)
		}
	}

	unit := regexp.MustCompile(`(?m)^ExecStart=/usr/bin/zmtpd %i (.*)$`).FindStringSubmatch(
		read("systemd/zmtpd@.service"))
	rc := regexp.MustCompile(`\$\{zmtpd_role\} (--config)`).FindStringSubmatch(read("freebsd/zmtpd"))
	if unit == nil || rc == nil {
		t.Fatal("no command line in the unit or the rc script")
	}
	for _, file := range []string{"zmtpd.yaml", "freebsd/zmtpd.yaml"} {
		accept(t, file, "config", "check", dir+file)
		for _, role := range []string{"up", "forwarder", "logger", "balance", "store-server"} {
			accept(t, role, slices.Concat([]string{role}, strings.Fields(strings.Replace(unit[1],
				"/etc/zmtpd/zmtpd.yaml", dir+file, 1)))...)
			accept(t, role, role, rc[1], dir+file)
		}
	}

	for _, m := range regexp.MustCompile(`(ZMTPD_[A-Z_]+)=(\S+)`).FindAllStringSubmatch(
		read("Containerfile"), -1) {
		t.Setenv(m[1], m[2])
	}
	accept(t, "container", "up")
}
