package v1alpha1

import (
	"fmt"
	"strings"

	"nodesmith.dev/nodesmith/internal/lazyregexp"
)

// forms are the forms of strings that Validate checks, by path.
var forms = map[string]syntax{
	"metadata.name":                         nameSyntax,
	"spec.containerImages[].name":           imageNameSyntax,
	"spec.containerImages[].digest":         imageDigestSyntax,
	"spec.containerImages[].archive":        sourceSyntax,
	"spec.packages":                         packageSyntax,
	"spec.files[].path":                     pathSyntax,
	"spec.files[].content":                  contentSyntax,
	"spec.files[].source":                   sourceSyntax,
	"spec.files[].mode":                     modeSyntax,
	"spec.files[].owner":                    ownerSyntax,
	"spec.directories[].path":               pathSyntax,
	"spec.directories[].mode":               modeSyntax,
	"spec.directories[].owner":              ownerSyntax,
	"spec.directories[].source":             sourceSyntax,
	"spec.links[].path":                     pathSyntax,
	"spec.links[].target":                   targetSyntax,
	"spec.scripts[].name":                   scriptNameSyntax,
	"spec.scripts[].content":                {"a script", scriptForm, nil, 0},
	"spec.scripts[].source":                 sourceSyntax,
	"spec.kernelArguments":                  kernelArgumentSyntax,
	"spec.sysctls":                          sysctlValueSyntax,
	"spec.kernelModules":                    moduleSyntax,
	"spec.systemdUnits[].name":              unitSyntax,
	"spec.systemdUnits[].content":           textSyntax,
	"spec.ntpServers":                       serverSyntax,
	"spec.timeZone":                         timeZoneSyntax,
	"spec.caCertificates[].name":            certificateNameSyntax,
	"spec.caCertificates[].content":         {"a certificate", certificateForm, nil, 0},
	"spec.caCertificates[].source":          sourceSyntax,
	"spec.users[].name":                     userSyntax,
	"spec.systemdUnits[].dropIns[].name":    dropInSyntax,
	"spec.systemdUnits[].dropIns[].content": textSyntax,
	"spec.users[].sshAuthorizedKeys":        {"an SSH public key", sshKeyForm, nil, 0},
	"spec.users[].groups":                   groupSyntax,
	"spec.users[].uid":                      idSyntax,
	"spec.groups[].name":                    groupSyntax,
	"spec.groups[].gid":                     idSyntax,
	"spec.users[].shell":                    shellSyntax,
	"spec.disk.size":                        sizeForm(minDiskSize),
	"spec.disk.headroom":                    headroomForm,
	"spec.disk.fileSystems[].mountPoint":    mountPointSyntax,
	"spec.disk.fileSystems[].size":          sizeForm(minFileSystemSize),
	"spec.disk.fileSystems[].headroom":      headroomForm,
	"spec.disk.fileSystems[].label":         labelSyntax,
	"spec.disk.fileSystems[].mountOptions":  mountOptionSyntax,
	"spec.vsphere.name": {
		machineNameSyntax.what, "a template such as " + defaultMachineName + " that becomes " + machineNameSyntax.allowed, nil, 0,
	},
	"spec.vsphere.hardwareVersion": {"a number", minHardwareVersion.String() + " to " + maxHardwareVersion.String(), countSyntax, 0},
	"spec.vsphere.guestOS":         guestOSSyntax,
	"spec.vsphere.cpus":            {"a number", "1 to " + maxCPUs.String(), countSyntax, 0},
	"spec.vsphere.memory": {
		"a size", fmt.Sprintf("a multiple of %s from %s to %s, such as 4Gi", memoryUnit, minMemory, maxMemory), sizeSyntax, 0,
	},
	"spec.vsphere.network":         lineSyntax,
	"spec.vsphere.annotation":      documentSyntax,
	"spec.vsphere.eula":            documentSyntax,
	"spec.vsphere.product.name":    lineSyntax,
	"spec.vsphere.product.vendor":  lineSyntax,
	"spec.vsphere.product.version": lineSyntax,
	"spec.vsphere.properties":      propertyValueSyntax,
	"spec.allowUnverified":         inputSyntax,

	"spec.source.os.packages.archives[].url":                archiveURLSyntax,
	"spec.source.os.packages.archives[].suites":             suiteSyntax,
	"spec.source.os.packages.archives[].components":         componentSyntax,
	"spec.source.os.packages.archives[].signedBy[].content": {"a signing key", signingKeyForm, nil, 0},
	"spec.source.os.packages.archives[].signedBy[].source":  sourceSyntax,
	"spec.repositories[].name":                              repositoryNameSyntax,
	"spec.repositories[].url":                               archiveURLSyntax,
	"spec.repositories[].suite":                             repositorySuiteSyntax,
	"spec.repositories[].components":                        componentSyntax,
	"spec.repositories[].signedBy[].content":                {"a signing key", signingKeyForm, nil, 0},
	"spec.repositories[].signedBy[].source":                 sourceSyntax,

	"spec.containerRuntime.registryMirrors[].registry":             registrySyntax,
	"spec.containerRuntime.registryMirrors[].mirrors[].url":        {"a URL", mirrorForm, nil, 0},
	"spec.containerRuntime.registryMirrors[].mirrors[].ca.content": {"a certificate", certificateForm, nil, 0},
	"spec.containerRuntime.registryMirrors[].mirrors[].ca.source":  sourceSyntax,
	"spec.containerRuntime.config[].name":                          tomlNameSyntax,
	"spec.containerRuntime.config[].content":                       textSyntax,
	"spec.kubelet.extraArgs":                                       kubeletFlagSyntax,
	"spec.proxy.httpProxy":                                         {"a URL", proxyForm, nil, 0},
	"spec.proxy.httpsProxy":                                        {"a URL", proxyForm, nil, 0},
	"spec.proxy.noProxy":                                           noProxySyntax,
}

// keyForms are the forms of the keys of maps, by path.
var keyForms = map[string]syntax{"spec.sysctls": sysctlKeySyntax, "spec.vsphere.properties": propertyKeySyntax}

// exactlyOne lists the fields of which an object has exactly one, by path.
var exactlyOne = map[string][]string{
	"spec.files[]":          {"content", "source"},
	"spec.scripts[]":        {"content", "source"},
	"spec.caCertificates[]": {"content", "source"},
	"spec.containerRuntime.registryMirrors[].mirrors[].ca": {"content", "source"},
}

// sizeForm is the form of a size of least bytes at least, or content.
func sizeForm(least Size) syntax {
	return syntax{
		"a size", "a whole number of MiB from " + least.String() + " to " + maxDiskSize.String() + ", such as 8Gi or 10240Mi; or " + contentText,
		lazyregexp.New(`^(` + contentText + `|` + strings.Trim(sizeSyntax.String(), "^$") + `)$`), 0,
	}
}

// headroomForm is the form of a headroom.
var headroomForm = syntax{"a size", "a size such as 512Mi or 2Gi", sizeSyntax, 0}
