// Command benchtext checks that the tools read benchmark runs completely:
//
//	go run ./.ci/benchtext bench.txt [another.txt]
//
// The files may be runs of different seeds or commits. It fails if
//
//   - a line looks like a result and is none, or the files come from different
//     machines, or the results of a package end without the end of its run
//     (package harness/results decides);
//   - benchstat splits the results of one package and unit over several tables,
//     which is what a configuration line that differs does, and then nothing is
//     compared;
//   - benchstat loses a result of any file, in its table or in a pivot over the
//     number of clients;
//   - benchstat warns of anything but the number and the sameness of samples, in
//     particular that a value declared exact is not;
//   - benchfilter loses a result.
//
// Otherwise it prints benchstat's tables. With -quick the first file must be a
// run of every case once, and it fails as well if the quick mode would break
// its budget: the time that booting took there, and the length of the cases.
package main
