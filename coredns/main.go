package main

import "github.com/coredns/coredns/coremain"

func main() { coremain.Run() }
