// Package codec writes and reads the numbers and texts of which messages, commands and
// rows are made.
//
// Writers append to a slice. A Reader cuts off what it reads, and is asked once, at the
// end, whether all of it was there: after something malformed every further value is
// zero, so that what is read by it needs no checks in between.
package codec
