metadata name = 'Storage account'
metadata description = 'A general-purpose account that takes tokens of Entra ID only, with its containers and who may use each.'

import { roleAssignmentType, roleIds } from 'roles.bicep'

@description('Required. Name of the account.')
@minLength(3)
@maxLength(24)
param name string

@description('Optional. Region.')
param location string = resourceGroup().location

@description('Optional. Tags.')
param tags object = {}

@description('Optional. Redundancy. Standard performance only: premium page blobs allow one snapshot in ten minutes.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
param skuName string = 'Standard_LRS'

@description('Required. Containers, and who may use them.')
param containers containerType[]

@description('Optional. Roles on the account itself.')
param roleAssignments roleAssignmentType[] = []

@description('Optional. Days for which a deleted container can be restored; 0: not at all.')
@minValue(0)
@maxValue(365)
param containerRetentionDays int = 0

@description('Optional. Disabled: by private endpoints only.')
@allowed(['Enabled', 'Disabled'])
param publicNetworkAccess string = 'Enabled'

type containerType = {
  name: string
  roleAssignments: roleAssignmentType[]
}

// One entry per role on a container, with the container's place in the list.
var containerRoles = flatten(map(
  containers,
  (container, index) => map(container.roleAssignments, assignment => union(assignment, { container: index }))
))

resource account 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: skuName
  }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    networkAcls: {
      // Azure Compute imports disks from here, and Event Grid is told of new blobs.
      bypass: 'AzureServices'
      defaultAction: publicNetworkAccess == 'Enabled' ? 'Allow' : 'Deny'
    }
    publicNetworkAccess: publicNetworkAccess
    supportsHttpsTrafficOnly: true
  }
}

// Soft delete of blobs, versions and the change feed would keep, and bill, every segment that was trimmed and every snapshot that was pruned.
resource blobService 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' = {
  parent: account
  name: 'default'
  properties: {
    changeFeed: {
      enabled: false
    }
    containerDeleteRetentionPolicy: containerRetentionDays == 0
      ? {
          enabled: false
        }
      : {
          enabled: true
          days: containerRetentionDays
        }
    deleteRetentionPolicy: {
      enabled: false
    }
    isVersioningEnabled: false
  }
}

resource blobContainers 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = [
  for container in containers: {
    parent: blobService
    name: container.name
    properties: {
      publicAccess: 'None'
    }
  }
]

resource containerRoleAssignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for assignment in containerRoles: {
    name: guid(blobContainers[assignment.container].id, assignment.principalId, roleIds[assignment.role])
    scope: blobContainers[assignment.container]
    properties: {
      principalId: assignment.principalId
      principalType: assignment.principalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[assignment.role])
    }
  }
]

resource accountRoleAssignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for assignment in roleAssignments: {
    name: guid(account.id, assignment.principalId, roleIds[assignment.role])
    scope: account
    properties: {
      principalId: assignment.principalId
      principalType: assignment.principalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[assignment.role])
    }
  }
]

@description('Resource id of the account.')
output resourceId string = account.id

@description('Name of the account.')
output name string = account.name

@description('Resource group of the account.')
output resourceGroupName string = resourceGroup().name

@description('Region of the account.')
output location string = account.location

@description('Address of its blobs, with a slash at the end.')
output blobEndpoint string = account.properties.primaryEndpoints.blob
