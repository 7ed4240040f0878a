// Command bench measures the plugins beside the reference plugins.
package main

func main() {}
