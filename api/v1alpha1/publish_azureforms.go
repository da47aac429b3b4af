package v1alpha1

import "nodesmith.dev/nodesmith/internal/lazyregexp"

const (
	maxAzureParallel Count = 32 // of 4 MiB: half of what a publish may hold
	maxAzureReplicas Count = 100
)

// The values of closed lists.
var (
	azureClouds        = []string{"public", "usGovernment", "china"}
	azureGenerations   = []string{"V1", "V2"}
	azureControllers   = []string{"SCSI", "NVMe"}
	azureStorageTypes  = []string{"Standard_LRS", "Standard_ZRS", "Premium_LRS"}
	azureSecurityTypes = []string{
		"TrustedLaunch", "TrustedLaunchSupported", "ConfidentialVmSupported", "TrustedLaunchAndConfidentialVmSupported",
	}
)

// The forms of names follow Azure's "Naming rules and restrictions".
var (
	azureIDSyntax = syntax{
		"an ID of Azure", "32 hexadecimal digits, such as 6ba7b810-9dad-11d1-80b4-00c04fd430c8",
		lazyregexp.New(`^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`), 36,
	}
	azureResourceGroupSyntax = syntax{
		"the name of a resource group", "at most 90 letters, digits and _-.(), no . at the end",
		lazyregexp.New(`^[\p{L}\p{N}_.()-]*[\p{L}\p{N}_()-]$`), 90,
	}
	azureStorageAccountSyntax = syntax{
		"the name of a storage account", "3 to 24 lower-case letters and digits",
		lazyregexp.New(`^[a-z0-9]{3,24}$`), 24,
	}
	azureContainerSyntax = syntax{
		"the name of a container", "3 to 63 lower-case letters, digits and single -, such as images",
		lazyregexp.New(`^[a-z0-9](-?[a-z0-9]){2,62}$`), 63,
	}
	azureGallerySyntax = syntax{
		"the name of a gallery", "at most 80 letters, digits, _ and ., a letter or digit first and last",
		lazyregexp.New(`^[A-Za-z0-9]([A-Za-z0-9_.]*[A-Za-z0-9])?$`), 80,
	}
	azureDefinitionSyntax = syntax{
		"the name of an image", "at most 80 letters, digits and ._-, a letter or digit first and last",
		lazyregexp.New(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`), 80,
	}
	azureIdentifierSyntax = syntax{
		"a part of an image's identifier", "at most 64 letters, digits and ._-, no . at the end",
		lazyregexp.New(`^[A-Za-z0-9._-]*[A-Za-z0-9_-]$`), 64,
	}
	azureVersionSyntax = syntax{
		"the name of a version", "three numbers up to 2147483647, such as 1.34.2000001",
		lazyregexp.New(`^(0|[1-9][0-9]{0,9})(\.(0|[1-9][0-9]{0,9})){2}$`), 32,
	}
	dateSyntax = syntax{
		"a day", "year, month and day, such as 2027-06-30",
		lazyregexp.New(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`), 10,
	}
	azurePrefixSyntax = syntax{
		"the begin of a public name", "5 to 16 letters and digits",
		lazyregexp.New(`^[A-Za-z0-9]{5,16}$`), 16,
	}
	webAddressSyntax = syntax{
		"an address", "one that begins with https:// or http://",
		lazyregexp.New(`^https?://[^\s` + control + `]+$`), 2048,
	}
)

// azureNameForm is linked to the checks of templates of names.
var azureNameForm = syntax{
	azureDefinitionSyntax.what, "a template such as " + defaultAzureDefinition + " that becomes " + azureDefinitionSyntax.allowed, nil, 0,
}

// azureTargetRules are the rules of single fields below an AzureTarget.
var azureTargetRules = rules{
	forms: map[string]syntax{
		"subscription": azureIDSyntax, "resourceGroup": azureResourceGroupSyntax, "location": azureLocationSyntax,
		"upload.storageAccount": azureStorageAccountSyntax, "upload.storageResourceGroup": azureResourceGroupSyntax,
		"upload.container":   azureContainerSyntax,
		"gallery.definition": azureNameForm, "managedImage.name": azureNameForm,
		"gallery.name": azureGallerySyntax, "gallery.version": azureVersionSyntax,
		"gallery.publisher": azureIdentifierSyntax, "gallery.offer": azureIdentifierSyntax, "gallery.sku": azureIdentifierSyntax,
		"gallery.description": lineSyntax, "gallery.eula": documentSyntax,
		"gallery.privacyStatement": webAddressSyntax, "gallery.releaseNotes": webAddressSyntax,
		"gallery.purchasePlan.name": lineSyntax, "gallery.purchasePlan.publisher": lineSyntax, "gallery.purchasePlan.product": lineSyntax,
		"gallery.regions[].name": azureLocationSyntax, "gallery.endOfLife": dateSyntax,
		"gallery.sharing.subscriptions": azureIDSyntax, "gallery.sharing.tenants": azureIDSyntax,
		"gallery.sharing.community.namePrefix": azurePrefixSyntax, "gallery.sharing.community.publisherURI": webAddressSyntax,
		"gallery.sharing.community.publisherContact": lineSyntax, "gallery.sharing.community.eula": documentSyntax,
	},
	allowed: map[string][]string{
		"cloud": azureClouds, "gallery.generation": azureGenerations, "managedImage.generation": azureGenerations,
		"gallery.securityType": azureSecurityTypes, "gallery.diskControllers": azureControllers,
		"gallery.regions[].storageType": azureStorageTypes,
	},
}
