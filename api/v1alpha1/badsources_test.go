package v1alpha1_test

// badSources are the badSpecs about where packages come from.
var badSources = []badSpec{
	{
		"sources that nothing implements", "",
		"  source:\n    os: {type: package}\n    kubernetes: {type: release}\n",
		"s.yaml:9:16: spec.source.os.type: \"package\" is not a source of operating systems; allowed: packages; did you mean \"packages\"?\n" +
			"s.yaml:10:24: spec.source.kubernetes.type: \"release\" is not a source of Kubernetes; allowed: goModules",
	},
	{
		"archives without suites, twice, with a slash and without a scheme", "",
		"  source: {os: {packages: {archives: [\n  {url: 'http://a/', suites: [b]},\n  {url: a/b, suites: [c/d, '']},\n  {url: 'http://a', components: [main, 'a b']},\n  {url: 'http://a', suites: [b, b]},\n  {url: 'http://a', suites: [b]},\n  {suites: [b]}]}}}\n",
		"s.yaml:9:9: spec.source.os.packages.archives[0].url: \"http://a/\" is not the address of a package archive; allowed: http://HOST/PATH or https://HOST/PATH without a slash at its end; did you mean \"http://a\"?\n" +
			"s.yaml:10:9: spec.source.os.packages.archives[1].url: \"a/b\" is not the address of a package archive; allowed: http://HOST/PATH or https://HOST/PATH without a slash at its end\n" +
			"s.yaml:10:23: spec.source.os.packages.archives[1].suites[0]: \"c/d\" is not a suite; allowed: the name of a directory below dists, such as noble-updates\n" +
			"s.yaml:10:28: spec.source.os.packages.archives[1].suites[1]: \"\" is not a suite; allowed: the name of a directory below dists, such as noble-updates\n" +
			"s.yaml:11:3: spec.source.os.packages.archives[2].suites: is required; allowed: the name of a directory below dists, such as noble-updates\n" +
			"s.yaml:11:40: spec.source.os.packages.archives[2].components[1]: \"a b\" is not a component; allowed: a name such as main or universe\n" +
			"s.yaml:12:33: spec.source.os.packages.archives[3].suites[1]: \"b\" is there twice; first as spec.source.os.packages.archives[3].suites[0]\n" +
			"s.yaml:13:30: spec.source.os.packages.archives[4].suites[0]: \"b\" is there twice; first as spec.source.os.packages.archives[3].suites[0]\n" +
			"s.yaml:14:3: spec.source.os.packages.archives[5].url: is required; allowed: http://HOST/PATH or https://HOST/PATH without a slash at its end",
	},
	{
		"repositories without signature, with a password, and of wrong names", "",
		"  repositories:\n  - {name: a, url: 'http://a/b', suite: c}\n  - {name: debian, url: 'https://me:secret@a/b', suite: c, signedBy: [{content: x}]}\n  - {name: a/b, url: 'http://a/b', suite: c, signedBy: [{}]}\n  - {name: d, url: 'http://a/b', suite: '..', signedBy: [{content: x, source: y}]}\n",
		"s.yaml:9:5: spec.repositories[0].signedBy: is required; allowed: the keys that sign it, or its URL in spec.allowUnverified\n" +
			"s.yaml:10:12: spec.repositories[1].name: \"debian\" is the name of the distribution's own sources\n" +
			"s.yaml:10:25: spec.repositories[1].url: an address with a user or password does not belong in a spec, nor on a node; allowed: the address without; a mirror in nodesmith's configuration may have them\n" +
			"s.yaml:10:81: spec.repositories[1].signedBy[0].content: the content holds no public key: -----BEGIN PGP PUBLIC KEY BLOCK-----; allowed: ASCII-armored OpenPGP public keys, -----BEGIN PGP PUBLIC KEY BLOCK-----\n" +
			"s.yaml:11:12: spec.repositories[2].name: \"a/b\" is not the name of a repository; allowed: letters, digits, _, - and ., such as docker\n" +
			"s.yaml:11:43: spec.repositories[2].suite: \"c\" is there twice; first as spec.repositories[0].suite\n" +
			"s.yaml:11:57: spec.repositories[2].signedBy[0]: has neither content nor source; allowed: exactly one of content, source\n" +
			"s.yaml:12:41: spec.repositories[3].suite: \"..\" is not a suite; allowed: the name of a directory below dists, such as bookworm, or / for a flat repository\n" +
			"s.yaml:12:58: spec.repositories[3].signedBy[0]: has both content and source; allowed: exactly one of content, source",
	},
	{
		"flat repository with components, and one that another URL allows", "",
		"  allowUnverified: ['http://a/b/c']\n  repositories:\n  - {name: a, url: 'http://a/b', suite: /, components: [main]}\n  - {name: b, url: 'http://b', suite: s, signedBy: [{source: motd.txt}]}\n",
		"s.yaml:10:5: spec.repositories[0].signedBy: is required; allowed: the keys that sign it, or its URL in spec.allowUnverified\n" +
			"s.yaml:10:56: spec.repositories[0].components: is set, and a flat repository (suite \"/\") has none\n" +
			"s.yaml:11:62: spec.repositories[1].signedBy[0].source: \"motd.txt\" holds no public key: -----BEGIN PGP PUBLIC KEY BLOCK-----; allowed: ASCII-armored OpenPGP public keys, -----BEGIN PGP PUBLIC KEY BLOCK-----",
	},
}
