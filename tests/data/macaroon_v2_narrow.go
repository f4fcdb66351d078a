// macaroon.v2, driven by tests/it/offline.rs: one JSON request on standard input, one JSON answer on standard output.
//
// {"narrow": [{"token", "caveats"}]} is answered with each token with its caveats appended. Built in the module of
// examples/offline/go.
package main

import (
	"encoding/base64"
	"encoding/json"
	"log"
	"os"

	"gopkg.in/macaroon.v2"
)

func main() {
	var request struct {
		Narrow []struct {
			Token   string
			Caveats []string
		}
	}
	if err := json.NewDecoder(os.Stdin).Decode(&request); err != nil {
		log.Fatal(err)
	}
	narrowed := make([]string, 0, len(request.Narrow))
	for _, item := range request.Narrow {
		token, err := narrow(item.Token, item.Caveats)
		if err != nil {
			log.Fatal(err)
		}
		narrowed = append(narrowed, token)
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"narrow": narrowed}); err != nil {
		log.Fatal(err)
	}
}

func narrow(token string, caveats []string) (string, error) {
	bytes, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", err
	}
	var m macaroon.Macaroon
	if err := m.UnmarshalBinary(bytes); err != nil {
		return "", err
	}
	for _, caveat := range caveats {
		if err := m.AddFirstPartyCaveat([]byte(caveat)); err != nil {
			return "", err
		}
	}
	bytes, err = m.MarshalBinary()
	return base64.RawURLEncoding.EncodeToString(bytes), err
}
