package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"
)

// One JSON question a line, one JSON answer a line: ask SECRETS [NOW], a moment in milliseconds instead of the clock.
func main() {
	file, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	var secrets Secrets
	if err := json.Unmarshal(file, &secrets); err != nil {
		log.Fatal(err)
	}
	lines, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		now := time.Now()
		if len(os.Args) > 2 {
			millis, err := strconv.ParseInt(os.Args[2], 10, 64)
			if err != nil {
				log.Fatal(err)
			}
			now = time.UnixMilli(millis)
		}
		var question map[string]any
		if err := json.Unmarshal(lines.Bytes(), &question); err != nil {
			log.Fatal(err)
		}
		facts := map[string]string{}
		for name, value := range question {
			if number, is := value.(float64); is {
				facts[name] = strconv.FormatFloat(number, 'f', -1, 64)
			} else if value != nil {
				facts[name] = fmt.Sprint(value)
			}
		}
		publisher, refused := Verify(secrets, facts["token"], facts, now)
		answer := map[string]any{"allowed": refused == nil, "publisher": publisher}
		if refused != nil {
			answer = map[string]any{"allowed": false, "reason": fmt.Sprint(refused)}
		}
		if err := out.Encode(answer); err != nil {
			log.Fatal(err)
		}
	}
}
