package kernels

import (
	"slices"
	"strings"
	"testing"
)

// What a machine has written until it hung.
const written = "=== RUN   TestBackend\n" +
	"=== RUN   TestBackend/nft\n" +
	"=== RUN   TestBackend/nft/Affinity\n" +
	"--- PASS: TestBackend/nft/Affinity (7.61s)\n" +
	"=== NAME  TestBackend/nft\n" +
	"=== RUN   TestBackend/nft/at_10.0.0.0/8\n" +
	"    cases.go:7: nobody answers\n" +
	"--- FAIL: TestBackend/nft/at_10.0.0.0/8 (0.10s)\n" +
	"=== NAME  TestBackend/nft\n" +
	"=== RUN   TestBackend/nft/SCTP\n" +
	"    cases.go:9: no SCTP\n" +
	"--- SKIP: TestBackend/nft/SCTP (0.00s)\n" +
	"=== NAME  TestBackend/nft\n" +
	"=== RUN   TestBackend/nft/Hairpin\n"

func TestResults(t *testing.T) {
	whole, err := results(written)
	if err != nil {
		t.Fatal(err)
	}
	if len(whole.parts) != 1 || len(whole.parts[0].parts) != 1 {
		t.Fatalf("%d tests", len(whole.parts))
	}
	var got []string
	for _, part := range whole.parts[0].parts[0].parts {
		got = append(got, part.name+" "+part.ended)
	}
	if want := []string{"Affinity pass", "at_10.0.0.0/8 fail", "SCTP skip", "Hairpin "}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if output := whole.parts[0].parts[0].parts[1].output.String(); !strings.Contains(output, "nobody answers") || strings.Contains(output, "no SCTP") {
		t.Errorf("the failed test has written %q", output)
	}
}

func TestNamed(t *testing.T) {
	for list, want := range map[string][]kernel{"all": all, "6.1": all[1:2], "newest,5.10": {all[3], all[0]}, "6.1,6.2": nil, "": nil} {
		if got, err := named(list); !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("KERNELS=%q: %v, %v", list, got, err)
		}
	}
}
