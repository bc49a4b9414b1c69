// Package id names transactions.
package id
