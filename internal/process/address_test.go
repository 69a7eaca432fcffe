package process

import (
	"net"
	"testing"
)

func TestFreeAddressesAreFreeAndNoTwoAreTheSame(t *testing.T) {
	given := map[string]bool{}
	for range 100 {
		address, err := FreeAddress()
		if err != nil {
			t.Fatal(err)
		}
		if given[address] {
			t.Fatalf("%s was given twice", address)
		}
		given[address] = true
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close() // those to come have to go round it
	}
}
