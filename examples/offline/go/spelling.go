package main

import (
	"regexp"
	"strings"
)

const text = `(?:[!-$&-+\--~]|%(?:[01][0-9A-F]|2[05C]|7F|[89A-F][0-9A-F]))+` // each byte in its one spelling

// What is not here refuses. `uses` is not: nobody can count offline. The names in `allow` are a Python registry's.
var forms = map[string]*regexp.Regexp{
	"registry":    regexp.MustCompile(`^` + text + `$`),
	"version":     regexp.MustCompile(`^` + text + `$`),
	"sha256":      regexp.MustCompile(`^[0-9a-f]{64}$`),
	"max-size":    regexp.MustCompile(`^(?:0|[1-9][0-9]*)$`),
	"time-before": regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$`),
	"ip":          regexp.MustCompile(`^[0-9a-f.:]+/[0-9]+$`),
	"allow":       regexp.MustCompile(`^[a-z](?:[a-z-]{0,30}[a-z])?:[a-z0-9]+(?:-[a-z0-9]+)*(?:-\*)?$`),
}

var (
	packageName = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	separators  = regexp.MustCompile(`[-_.]+`)
)

// spelt says whether the names are those of canonical and of forms["allow"]. Another ecosystem: put its rule there and its
// name here. With another's rule, two packages could be one.
func (s Secrets) spelt() bool { return s.Ecosystem == "pypi" && s.Codec == "text" }

// canonical is the one spelling of a package's name: the registry's own business. This is Python's (PEP 503).
func canonical(name string) string {
	if len(name) > 214 || !packageName.MatchString(name) {
		return ""
	}
	return strings.ToLower(separators.ReplaceAllString(name, "-"))
}
